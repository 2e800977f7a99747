package stun

import (
	"encoding/binary"
	"encoding/hex"
	"testing"

	pion "github.com/pion/stun/v4"
)

const password = "an-ice-password-of-32-characters"

// samplePassword is that of the samples of RFC 5769 sections 2.1 to 2.3.
const samplePassword = "VOkJxbRl1RmTxUk/WvJxBt"

// sampleRequest is RFC 5769 section 2.1, answer4 and answer6 are 2.2 and 2.3.
const (
	sampleRequest = "000100582112a442b7e7a701bc34d686fa87dfae" +
		"802200105354554e207465737420636c69656e74" + "002400046e0001ff" + "80290008932ff9b151263b36" +
		"000600096576746a3a68367659202020" + "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2" + "80280004e57a3bcf"
	sampleAnswer4 = "0101003c2112a442b7e7a701bc34d686fa87dfae" + "8022000b7465737420766563746f7220" +
		"002000080001a147e112a643" + "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7" + "80280004c07d4c96"
	sampleAnswer6 = "010100482112a442b7e7a701bc34d686fa87dfae" + "8022000b7465737420766563746f7220" +
		"002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9" + "00080014a382954e4be67bf11784c97c8292c275bfe3ed41" +
		"80280004c8fb0b4c"
)

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func raw(kind uint16, value ...byte) pion.RawAttribute {
	return pion.RawAttribute{Type: pion.AttrType(kind), Value: value}
}

// The attributes of a browser's check.
var (
	priority    = raw(attrPriority, 0x7e, 0, 0x1e, 0xff)
	controlling = raw(attrControlling, 1, 2, 3, 4, 5, 6, 7, 8)
	controlled  = raw(attrControlled, 8, 7, 6, 5, 4, 3, 2, 1)
	nominate    = raw(attrUseCandidate)
	networkCost = raw(0xc057, 0, 1, 0, 10) // Chromium's own, optional
)

// message is built by pion out of the setters, in their order.
func message(tb testing.TB, kind pion.MessageType, setters ...pion.Setter) []byte {
	tb.Helper()
	m, err := pion.Build(append([]pion.Setter{kind, pion.TransactionID}, setters...)...)
	if err != nil {
		tb.Fatal(err)
	}
	return m.Raw
}

// check is a check in Chromium's order.
func check(tb testing.TB) []byte {
	tb.Helper()
	return message(tb, pion.BindingRequest, pion.NewUsername("local:remote"), networkCost, controlling, nominate, priority,
		pion.NewShortTermIntegrity(password), pion.Fingerprint)
}

// sealedLate has a right fingerprint and a right integrity, in the wrong order.
func sealedLate(tb testing.TB) []byte {
	tb.Helper()
	b := appendFingerprint(message(tb, pion.BindingRequest, pion.NewUsername("local:remote")), 0)
	sum := NewAuthenticator(NewMAC(), password).integrity(b)
	b = append(appendAttribute(b, attrMessageIntegrity, integritySize), sum...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-HeaderSize))
	return b
}

// firefoxCheck has Firefox's order.
func firefoxCheck(tb testing.TB) []byte {
	tb.Helper()
	return message(tb, pion.BindingRequest, priority, nominate, controlling, pion.NewUsername("local:remote"),
		pion.NewShortTermIntegrity(password), pion.Fingerprint)
}

// decode is pion's reading of an answer, its fingerprint checked.
func decode(tb testing.TB, b []byte) *pion.Message {
	tb.Helper()
	m := &pion.Message{Raw: b}
	if err := m.Decode(); err != nil {
		tb.Fatal(err)
	}
	if err := pion.Fingerprint.Check(m); err != nil {
		tb.Fatal(err)
	}
	return m
}
