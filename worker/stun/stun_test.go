package stun

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"testing"

	pion "github.com/pion/stun/v4"

	"github.com/dspeak/sfu/internal/errs"
)

const password = "an-ice-password-of-32-characters"

// check is a browser's connectivity check, built by pion.
func check(tb testing.TB, extra ...pion.Setter) []byte {
	tb.Helper()
	setters := append([]pion.Setter{
		pion.BindingRequest, pion.TransactionID, pion.NewUsername("local:remote"),
		pion.RawAttribute{Type: pion.AttrPriority, Value: []byte{0x7e, 0, 0x1e, 0xff}},
		pion.RawAttribute{Type: pion.AttrICEControlling, Value: []byte{1, 2, 3, 4, 5, 6, 7, 8}},
		pion.RawAttribute{Type: pion.AttrUseCandidate},
		pion.RawAttribute{Type: 0xc057, Value: []byte{0, 1, 0, 10}}, // Chromium's network cost
	}, extra...)
	m, err := pion.Build(append(setters, pion.NewShortTermIntegrity(password), pion.Fingerprint)...)
	if err != nil {
		tb.Fatal(err)
	}
	return m.Raw
}

func TestParseReadsWhatPionWrites(t *testing.T) {
	r, err := Parse(check(t))
	if err != nil {
		t.Fatal(err)
	}
	if string(r.LocalUfrag) != "local" || string(r.RemoteUfrag) != "remote" {
		t.Errorf("user fragments %q and %q", r.LocalUfrag, r.RemoteUfrag)
	}
	if r.Priority != 0x7e001eff || !r.UseCandidate || !r.Controlling || r.Controlled || r.TieBreaker != 0x0102030405060708 {
		t.Errorf("request %+v", r)
	}
	if !r.HasIntegrity || !r.HasFingerprint || r.Unknown != 0 || r.Indication {
		t.Errorf("request %+v", r)
	}
	if !NewAuthenticator(password).Verify(&r) {
		t.Error("a right request does not verify")
	}
	if NewAuthenticator("another").Verify(&r) {
		t.Error("a wrong password verifies")
	}
}

// RFC 5769 section 2.1.
func TestSampleRequestOfRFC5769(t *testing.T) {
	raw, err := hex.DecodeString("000100582112a442b7e7a701bc34d686fa87dfae" +
		"802200105354554e207465737420636c69656e74" + "002400046e0001ff" + "80290008932ff9b151263b36" +
		"000600096576746a3a68367659202020" + "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2" + "80280004e57a3bcf")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if string(r.LocalUfrag) != "evtj" || string(r.RemoteUfrag) != "h6vY" || !r.Controlled {
		t.Fatalf("request %+v", r)
	}
	if !NewAuthenticator("VOkJxbRl1RmTxUk/WvJxBt").Verify(&r) {
		t.Fatal("the sample does not verify")
	}
}

func TestEveryChangedBitIsRefused(t *testing.T) {
	raw := check(t)
	a := NewAuthenticator(password)
	for i := range len(raw) * 8 {
		raw[i/8] ^= 1 << (i % 8)
		if r, err := Parse(raw); err == nil && r.HasFingerprint && a.Verify(&r) {
			t.Errorf("bit %d changed and it verifies", i)
		}
		raw[i/8] ^= 1 << (i % 8)
	}
}

func TestAnswersAreWhatPionReads(t *testing.T) {
	a := NewAuthenticator(password)
	id := [12]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	for _, addr := range []string{"192.0.2.1:4711", "[2001:db8::7]:65535", "[::ffff:192.0.2.9]:9"} {
		mapped := netip.MustParseAddrPort(addr)
		m := decode(t, a.AppendSuccess([]byte("head"), id, mapped)[4:])
		var got pion.XORMappedAddress
		if err := got.GetFrom(m); err != nil {
			t.Fatal(err)
		}
		ip, _ := netip.AddrFromSlice(got.IP)
		if ip.Unmap() != mapped.Addr().Unmap() || got.Port != int(mapped.Port()) {
			t.Errorf("mapped address %v, want %v", got, mapped)
		}
		if m.Type != pion.BindingSuccess || m.TransactionID != id {
			t.Errorf("answer %v", m)
		}
		if err := pion.NewShortTermIntegrity(password).Check(m); err != nil {
			t.Error(err)
		}
	}
}

func TestErrorAnswers(t *testing.T) {
	a := NewAuthenticator(password)
	for code, reason := range map[int]string{400: "Bad Request", 401: "Unauthorized", 487: "Role Conflict"} {
		m := decode(t, a.AppendError(nil, [12]byte{9}, code, reason))
		var got pion.ErrorCodeAttribute
		if err := got.GetFrom(m); err != nil {
			t.Fatal(err)
		}
		if int(got.Code) != code || string(got.Reason) != reason || m.Type != pion.BindingError {
			t.Errorf("got %v", got)
		}
		if err := pion.NewShortTermIntegrity(password).Check(m); (err == nil) == (code == 401) {
			t.Errorf("code %d: integrity %v", code, err)
		}
	}
	m := decode(t, a.AppendUnknown(nil, [12]byte{}, 0x0033))
	var unknown pion.UnknownAttributes
	if err := unknown.GetFrom(m); err != nil || len(unknown) == 0 || unknown[0] != 0x0033 {
		t.Errorf("unknown attributes %v, %v", unknown, err)
	}
}

func decode(t *testing.T, raw []byte) *pion.Message {
	t.Helper()
	m := &pion.Message{Raw: raw}
	if err := m.Decode(); err != nil {
		t.Fatal(err)
	}
	if err := pion.Fingerprint.Check(m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestUnknownRequiredAttributeIsNamed(t *testing.T) {
	r, err := Parse(check(t, pion.RawAttribute{Type: 0x0033, Value: []byte{1}}, pion.RawAttribute{Type: 0x0034}))
	if err != nil || r.Unknown != 0x0033 {
		t.Fatalf("unknown %#x, %v", r.Unknown, err)
	}
}

func TestMalformedIsInvalid(t *testing.T) {
	good := check(t)
	for name, b := range map[string][]byte{
		"empty":      nil,
		"short":      good[:19],
		"truncated":  good[:len(good)-4],
		"an answer":  NewAuthenticator("x").AppendSuccess(nil, [12]byte{}, netip.MustParseAddrPort("127.0.0.1:1")),
		"odd length": append(append([]byte{}, good...), 0),
		"no colon":   build(t, pion.NewUsername("local")),
		"no local":   build(t, pion.NewUsername(":remote")),
		"bad size":   build(t, pion.RawAttribute{Type: pion.AttrPriority, Value: []byte{1}}),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse(b); !errors.Is(err, errs.ErrInvalid) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func build(t *testing.T, s pion.Setter) []byte {
	t.Helper()
	m, err := pion.Build(pion.BindingRequest, pion.TransactionID, s)
	if err != nil {
		t.Fatal(err)
	}
	return m.Raw
}

func TestNoAllocation(t *testing.T) {
	raw, a := check(t), NewAuthenticator(password)
	dst := make([]byte, 0, 256)
	mapped := netip.MustParseAddrPort("192.0.2.1:4711")
	if n := testing.AllocsPerRun(100, func() {
		r, err := Parse(raw)
		if err != nil || !a.Verify(&r) {
			t.Fatal("not verified")
		}
		dst = a.AppendSuccess(dst[:0], r.TransactionID, mapped)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(check(f))
	f.Add([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	a := NewAuthenticator(password)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil {
			return
		}
		if a.Verify(&r) {
			m := &pion.Message{Raw: b}
			if err := m.Decode(); err != nil {
				t.Fatalf("verified, but pion cannot read it: %v", err)
			}
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	raw, a := check(b), NewAuthenticator(password)
	dst := make([]byte, 0, 256)
	mapped := netip.MustParseAddrPort("192.0.2.1:4711")
	b.ReportAllocs()
	for b.Loop() {
		r, err := Parse(raw)
		if err != nil || !a.Verify(&r) {
			b.Fatal("not verified")
		}
		dst = a.AppendSuccess(dst[:0], r.TransactionID, mapped)
	}
}
