package handshake

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	pion "github.com/pion/dtls/v3/pkg/crypto/fingerprint"

	"github.com/dspeak/sfu/internal/errs"
)

func TestNewCertificate(t *testing.T) {
	cert, prints := newCert(t)
	parsed, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := parsed.PublicKey.(*ecdsa.PublicKey); !ok {
		t.Errorf("key is a %T", parsed.PublicKey)
	}
	if now := time.Now(); now.Before(parsed.NotBefore) || now.AddDate(1, 0, 0).After(parsed.NotAfter) {
		t.Errorf("valid from %v to %v", parsed.NotBefore, parsed.NotAfter)
	}
	if err := parsed.CheckSignature(parsed.SignatureAlgorithm, parsed.RawTBSCertificate, parsed.Signature); err != nil {
		t.Error(err)
	}
	other, _ := newCert(t)
	if again, err := x509.ParseCertificate(other.Certificate[0]); err != nil || again.SerialNumber.Cmp(parsed.SerialNumber) == 0 {
		t.Errorf("the same serial number twice, or %v", err)
	}
	for i, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		want, err := pion.Fingerprint(parsed, hash)
		if err != nil || prints[i].Value != strings.ToUpper(want) {
			t.Errorf("%s is %s, want %s, %v", prints[i].Algorithm, prints[i].Value, want, err)
		}
	}
}

func TestFingerprintsOfNothing(t *testing.T) {
	cert, _ := newCert(t)
	cert.Certificate = nil
	if _, err := FingerprintsOf(cert); !errors.Is(err, errs.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

func TestAnyFingerprintMayMatch(t *testing.T) {
	cert, prints := newCert(t)
	_, foreign := newCert(t)
	lower := Fingerprint{Algorithm: "SHA-256", Value: strings.ToLower(prints[0].Value)}
	for _, tc := range []struct {
		name   string
		prints []Fingerprint
		want   bool
	}{
		{"sha-256", prints[:1], true},
		{"sha-384", prints[1:2], true},
		{"sha-512", prints[2:], true},
		{"in another case", []Fingerprint{lower}, true},
		{"the second of two", []Fingerprint{foreign[0], prints[1]}, true},
		{"beside an unknown algorithm", []Fingerprint{{"sha-3", "x"}, prints[0]}, true},
		{"foreign ones", foreign, false},
	} {
		parsed, err := parseFingerprints(tc.prints)
		if got := matchesAny(cert.Certificate[0], parsed); got != tc.want || err != nil {
			t.Errorf("%s: %v, %v", tc.name, got, err)
		}
	}
}
