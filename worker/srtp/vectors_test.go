package srtp

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"strings"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sealed returns what seal makes of the packet.
func sealed(t *testing.T, packet string, seal func(b []byte) []byte) []byte {
	t.Helper()
	b := unhex(t, packet)
	return seal(append(make([]byte, 0, len(b)+MaxTag+4), b...))
}

func mustBe(t *testing.T, got []byte, want string) {
	t.Helper()
	if !bytes.Equal(got, unhex(t, want)) {
		t.Fatalf("got  %x\nwant %s", got, want)
	}
}

// TestKeyDerivationOfRFC3711 has the keys of appendix B.3.
func TestKeyDerivationOfRFC3711(t *testing.T) {
	key, salt := unhex(t, "E1F97A0D3E018BE0D64FA32C06DE4139"), unhex(t, "0EC675AD498AFEEBB6960B3AABE6")
	for purpose, want := range map[label]string{
		rtpKey:  "C61E7A93744F39EE10734AFE3FF7A087",
		rtpSalt: "30CBBC08863D8C85D49DB34A9AE1",
		rtpAuth: "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4",
	} {
		out := make([]byte, len(want)/2)
		if err := derive(key, salt, purpose, out); err != nil {
			t.Fatal(err)
		}
		mustBe(t, out, want)
	}
}

// TestCounterModeOfRFC3711 has the key stream of appendix B.2.
func TestCounterModeOfRFC3711(t *testing.T) {
	block, err := aes.NewCipher(unhex(t, "2B7E151628AED2A6ABF7158809CF4F3C"))
	if err != nil {
		t.Fatal(err)
	}
	c := &cm{}
	copy(c.counter[:], unhex(t, "F0F1F2F3F4F5F6F7F8F9FAFBFCFD0000"))
	b := make([]byte, 0xff02*aes.BlockSize)
	c.encrypt(block, b)
	mustBe(t, b[:48], "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB 41E95B3BB0A2E8DD477901E4FCA894C0")
	mustBe(t, b[0xfeff*aes.BlockSize:], "EC8CDF7398607CB0F2D21675EA9EA1E4 362B7C3C6773516318A077D7FC5073AE 6A2CC3787889374FBEB4C81B17BA6C44")
}

// TestVectorsOfRFC7714 has the packets of sections 16.1.1 and 17.1.
func TestVectorsOfRFC7714(t *testing.T) {
	key := unhex(t, "000102030405060708090a0b0c0d0e0f")
	g := &gcm{rtpKey: [keySize]byte(key)}
	copy(g.rtpSalt[:], unhex(t, "517569642070726f2071756f"))
	g.rtcpSalt = g.rtpSalt
	var err error
	if g.rtcp, err = newAEAD(&g.rtpKey); err != nil {
		t.Fatal(err)
	}
	mustBe(t, sealed(t, `8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976
		69736120 696e2070 61727465 73207472 6573`, func(b []byte) []byte { return g.RTP(b, 12, 0x5501a0b2, 0xf17b) }),
		`8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b
		36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce`)
	mustBe(t, sealed(t, `81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
		deadbeef deadbeef deadbeef deadbeef deadbeef`, func(b []byte) []byte { return g.RTCP(b, 0x5d4) }),
		`81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda
		4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4`)
}
