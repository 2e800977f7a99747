package stun

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	pion "github.com/pion/stun/v4"
)

func TestVerify(t *testing.T) {
	secret := pion.NewShortTermIntegrity(password)
	name := pion.NewUsername("local:remote")
	for title, tc := range map[string]struct {
		b    []byte
		want bool
	}{
		"Chromium's":               {check(t), true},
		"Firefox's":                {firefoxCheck(t), true},
		"no fingerprint":           {message(t, pion.BindingRequest, name, secret), true},
		"something after the end":  {message(t, pion.BindingRequest, name, secret, networkCost), true},
		"another password":         {message(t, pion.BindingRequest, name, pion.NewShortTermIntegrity("x"), pion.Fingerprint), false},
		"no integrity":             {message(t, pion.BindingRequest, name, pion.Fingerprint), false},
		"no user name":             {message(t, pion.BindingRequest, priority, secret, pion.Fingerprint), false},
		"user name after its seal": {message(t, pion.BindingRequest, secret, name), false},
		"fingerprint too early":    {sealedLate(t), false},
		"a wrong fingerprint":      {message(t, pion.BindingRequest, name, secret, raw(attrFingerprint, 1, 2, 3, 4)), false},
	} {
		t.Run(title, func(t *testing.T) {
			r, err := Parse(tc.b)
			if err != nil {
				t.Fatal(err)
			}
			if got := NewAuthenticator(NewMAC(), password).Verify(&r); got != tc.want {
				t.Fatalf("got %v", got)
			}
		})
	}
}

func TestEveryChangedBitIsRefused(t *testing.T) {
	b := check(t)
	a := NewAuthenticator(NewMAC(), password)
	for i := range len(b) * 8 {
		b[i/8] ^= 1 << (i % 8)
		if r, err := Parse(b); err == nil && r.HasFingerprint && a.Verify(&r) {
			t.Errorf("bit %d changed and it verifies", i)
		}
		b[i/8] ^= 1 << (i % 8)
	}
}

// The samples have a SOFTWARE attribute, padded with spaces, in front of ours.
func TestSampleAnswersOfRFC5769(t *testing.T) {
	for name, tc := range map[string]struct{ want, mapped string }{
		"IPv4": {sampleAnswer4, "192.0.2.1:32853"},
		"IPv6": {sampleAnswer6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"},
	} {
		t.Run(name, func(t *testing.T) {
			want := unhex(t, tc.want)
			id := [TransactionIDSize]byte(want[8:20])
			b := appendHeader(nil, typeSuccess, id)
			b = append(appendAttribute(b, 0x8022, 11), "test vector "...)
			b = appendMapped(b, id, netip.MustParseAddrPort(tc.mapped))
			if b = NewAuthenticator(NewMAC(), samplePassword).seal(b, 0); !bytes.Equal(b, want) {
				t.Fatalf("got  %x\nwant %x", b, want)
			}
		})
	}
}

func TestSuccessIsWhatPionReads(t *testing.T) {
	a := NewAuthenticator(NewMAC(), password)
	id := [12]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	for _, addr := range []string{"192.0.2.1:4711", "[2001:db8::7]:65535", "[::ffff:192.0.2.9]:9", "[fe80::1%eth0]:1"} {
		mapped := netip.MustParseAddrPort(addr)
		m := decode(t, a.AppendSuccess([]byte("head"), id, mapped)[4:])
		var got pion.XORMappedAddress
		if err := got.GetFrom(m); err != nil {
			t.Fatal(err)
		}
		ip, _ := netip.AddrFromSlice(got.IP)
		if ip.Unmap() != mapped.Addr().Unmap().WithZone("") || got.Port != int(mapped.Port()) {
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
	a := NewAuthenticator(NewMAC(), password)
	for _, tc := range []struct {
		code   int
		reason string
		sealed bool
	}{
		{400, "Bad Request", false},
		{401, "Unauthorized", false},
		{487, "Role Conflict", true},
		{500, "", true},
	} {
		m := decode(t, a.AppendError([]byte("head"), [12]byte{9}, tc.code, tc.reason)[4:])
		var got pion.ErrorCodeAttribute
		if err := got.GetFrom(m); err != nil {
			t.Fatal(err)
		}
		if int(got.Code) != tc.code || string(got.Reason) != tc.reason || m.Type != pion.BindingError {
			t.Errorf("got %v", got)
		}
		if err := pion.NewShortTermIntegrity(password).Check(m); (err == nil) != tc.sealed {
			t.Errorf("code %d: integrity %v", tc.code, err)
		}
	}
	if b := a.AppendError(nil, [12]byte{}, 487, strings.Repeat("x", 1<<16)); len(b) > 256 {
		t.Errorf("a long reason gives %d bytes", len(b))
	}
}

func TestUnknownAttributeAnswer(t *testing.T) {
	m := decode(t, NewAuthenticator(NewMAC(), password).AppendUnknown(nil, [12]byte{}, 0x0033))
	var code pion.ErrorCodeAttribute
	if err := code.GetFrom(m); err != nil || code.Code != pion.CodeUnknownAttribute {
		t.Errorf("code %v, %v", code, err)
	}
	var unknown pion.UnknownAttributes
	if err := unknown.GetFrom(m); err != nil || len(unknown) != 1 || unknown[0] != 0x0033 {
		t.Errorf("unknown attributes %v, %v", unknown, err)
	}
	if err := pion.NewShortTermIntegrity(password).Check(m); err != nil {
		t.Error(err)
	}
}

func TestNoAllocation(t *testing.T) {
	b, a := check(t), NewAuthenticator(NewMAC(), password)
	dst := make([]byte, 0, 256)
	id, mapped := [12]byte{}, netip.MustParseAddrPort("[2001:db8::7]:4711")
	for name, call := range map[string]func(){
		"verified check": func() {
			r, err := Parse(b)
			if err != nil || !a.Verify(&r) {
				t.Fatal("not verified")
			}
			dst = a.AppendSuccess(dst[:0], r.TransactionID, mapped)
		},
		"error":   func() { dst = a.AppendError(dst[:0], id, 487, "Role Conflict") },
		"refusal": func() { dst = a.AppendError(dst[:0], id, 400, "Bad Request") },
		"unknown": func() { dst = a.AppendUnknown(dst[:0], id, 0x33) },
	} {
		if n := testing.AllocsPerRun(100, call); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	request := check(b)
	mapped := netip.MustParseAddrPort("192.0.2.1:4711")
	b.Run("own", func(b *testing.B) {
		a, dst := NewAuthenticator(NewMAC(), password), make([]byte, 0, 256)
		b.ReportAllocs()
		for b.Loop() {
			r, err := Parse(request)
			if err != nil || !a.Verify(&r) {
				b.Fatal("not verified")
			}
			dst = a.AppendSuccess(dst[:0], r.TransactionID, mapped)
		}
	})
	b.Run("pion", func(b *testing.B) {
		m, answer := &pion.Message{}, &pion.Message{}
		secret := pion.NewShortTermIntegrity(password)
		b.ReportAllocs()
		for b.Loop() {
			m.Raw = append(m.Raw[:0], request...)
			if m.Decode() != nil || pion.Fingerprint.Check(m) != nil || secret.Check(m) != nil {
				b.Fatal("not verified")
			}
			err := answer.Build(pion.NewTransactionIDSetter(m.TransactionID), pion.BindingSuccess,
				&pion.XORMappedAddress{IP: mapped.Addr().AsSlice(), Port: int(mapped.Port())}, secret, pion.Fingerprint)
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRefuseGarbage(b *testing.B) {
	bad := check(b)
	bad[23] = 200
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(bad); err == nil {
			b.Fatal("parsed")
		}
	}
}
