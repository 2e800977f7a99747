package handshake

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"
)

// tbsCertificate is what is signed of a certificate (RFC 5280 section 4.1). It is
// written here by hand, as the library makes good ones only.
type tbsCertificate struct {
	Version    int `asn1:"optional,explicit,default:0,tag:0"`
	Serial     *big.Int
	Algorithm  pkix.AlgorithmIdentifier
	Issuer     asn1.RawValue
	Validity   struct{ NotBefore, NotAfter time.Time }
	Subject    asn1.RawValue
	PublicKey  asn1.RawValue
	Extensions []pkix.Extension `asn1:"omitempty,optional,explicit,tag:3"`
}

// oddCertificate makes a certificate whose signature nobody can check.
func oddCertificate(t *testing.T, key crypto.Signer, edit func(*tbsCertificate)) tls.Certificate {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	tbs := tbsCertificate{
		Version: 2, Serial: big.NewInt(1), Algorithm: pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
		Issuer: nameOf(t, asn1.TagUTF8String, []byte("x")), Subject: nameOf(t, asn1.TagUTF8String, []byte("x")),
		PublicKey: asn1.RawValue{FullBytes: spki},
	}
	tbs.Validity.NotBefore, tbs.Validity.NotAfter = time.Now().Add(-time.Hour).UTC(), time.Now().Add(time.Hour).UTC()
	if edit != nil {
		edit(&tbs)
	}
	der, err := asn1.Marshal(struct {
		TBS       tbsCertificate
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{tbs, tbs.Algorithm, asn1.BitString{Bytes: []byte{1, 2, 3}, BitLength: 24}})
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// nameOf is a distinguished name with a common name of some string type.
func nameOf(t *testing.T, tag int, value []byte) asn1.RawValue {
	t.Helper()
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	type set []attribute
	inner, err := asn1.MarshalWithParams(set{{asn1.ObjectIdentifier{2, 5, 4, 3}, asn1.RawValue{Tag: tag, Bytes: value}}}, "set")
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSequence, IsCompound: true, Bytes: inner})
	if err != nil {
		t.Fatal(err)
	}
	return asn1.RawValue{FullBytes: der}
}

func ecKey(t *testing.T, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestOddCertificates connects with certificates of which nothing counts but the
// fingerprint and the key.
func TestOddCertificates(t *testing.T) {
	extension := func(critical bool, value []byte, id ...int) pkix.Extension {
		return pkix.Extension{Id: id, Critical: critical, Value: value}
	}
	for name, edit := range map[string]func(*tbsCertificate){
		"as it should be":        nil,
		"negative serial number": func(c *tbsCertificate) { c.Serial = big.NewInt(-8876543210987654321) },
		"serial number 0":        func(c *tbsCertificate) { c.Serial = new(big.Int) },
		"serial number -1":       func(c *tbsCertificate) { c.Serial = big.NewInt(-1) },
		"long serial number":     func(c *tbsCertificate) { c.Serial = new(big.Int).Lsh(big.NewInt(1), 400) },
		"version 1":              func(c *tbsCertificate) { c.Version = 0 },
		"version 2":              func(c *tbsCertificate) { c.Version = 1 },
		"no name":                func(c *tbsCertificate) { c.Subject = asn1.RawValue{FullBytes: []byte{0x30, 0}}; c.Issuer = c.Subject },
		"name in T.61":           func(c *tbsCertificate) { c.Issuer = nameOf(t, asn1.TagT61String, []byte("\xe9")) },
		"long name":              func(c *tbsCertificate) { c.Subject = nameOf(t, asn1.TagUTF8String, bytes.Repeat([]byte("x"), 900)) },
		"expired":                func(c *tbsCertificate) { c.Validity.NotAfter = time.Now().Add(-time.Minute).UTC() },
		"not yet valid":          func(c *tbsCertificate) { c.Validity.NotBefore = time.Now().Add(time.Minute).UTC() },
		"expired before valid": func(c *tbsCertificate) {
			c.Validity.NotAfter, c.Validity.NotBefore = c.Validity.NotBefore, c.Validity.NotAfter
		},
		"valid for ever":             func(c *tbsCertificate) { c.Validity.NotAfter = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) },
		"unknown signature":          func(c *tbsCertificate) { c.Algorithm.Algorithm = asn1.ObjectIdentifier{1, 2, 3, 4} },
		"unknown critical extension": func(c *tbsCertificate) { c.Extensions = []pkix.Extension{extension(true, []byte("x"), 1, 2, 3)} },
		"huge": func(c *tbsCertificate) {
			c.Extensions = []pkix.Extension{extension(false, make([]byte, 12<<10), 1, 2, 3)}
		},
	} {
		t.Run(name, func(t *testing.T) { connects(t, oddCertificate(t, ecKey(t, elliptic.P256()), edit)) })
	}
}

// connects does a handshake in both roles with the peer's certificate.
func connects(t *testing.T, cert tls.Certificate) {
	t.Helper()
	prints, err := FingerprintsOf(cert)
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range []Role{Server, Client} {
		t.Run(fmt.Sprint("role ", role), func(t *testing.T) {
			l := newLink(t, newPool(t, Config{}), setup{role: role, cert: cert, prints: prints[:1]})
			defer l.close()
			checkKeys(t, l, role, l.mustFinish())
		})
	}
}

// TestUnreadableCertificates has what the DTLS library cannot read, of which it wants
// the public key. The handshake ends at once and says why.
func TestUnreadableCertificates(t *testing.T) {
	extension := func(critical bool, value []byte, id ...int) pkix.Extension {
		return pkix.Extension{Id: id, Critical: critical, Value: value}
	}
	for name, edit := range map[string]func(*tbsCertificate){
		"version 4":             func(c *tbsCertificate) { c.Version = 3 },
		"name that is no UTF-8": func(c *tbsCertificate) { c.Subject = nameOf(t, asn1.TagUTF8String, []byte("\xff\xfe")) },
		"name not printable":    func(c *tbsCertificate) { c.Issuer = nameOf(t, asn1.TagPrintableString, []byte("a@*&_\x00")) },
		"half a BMP name":       func(c *tbsCertificate) { c.Issuer = nameOf(t, asn1.TagBMPString, []byte("abc")) },
		"extension twice": func(c *tbsCertificate) {
			c.Extensions = []pkix.Extension{extension(false, nil, 1, 2, 3), extension(false, nil, 1, 2, 3)}
		},
		"malformed basic constraints": func(c *tbsCertificate) { c.Extensions = []pkix.Extension{extension(true, []byte("x"), 2, 5, 29, 19)} },
		"malformed key usage":         func(c *tbsCertificate) { c.Extensions = []pkix.Extension{extension(true, nil, 2, 5, 29, 15)} },
		"malformed alternative name": func(c *tbsCertificate) {
			c.Extensions = []pkix.Extension{extension(false, []byte{0x30, 3, 0x82, 1, 0xff}, 2, 5, 29, 17)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cert := oddCertificate(t, ecKey(t, elliptic.P256()), edit)
			prints, err := FingerprintsOf(cert)
			if err != nil {
				t.Fatal(err)
			}
			l := newLink(t, newPool(t, Config{}), setup{role: Server, cert: cert, prints: prints})
			defer l.close()
			if r, _ := l.finish(); r.Err == nil || !strings.Contains(r.Err.Error(), "x509") {
				t.Errorf("the handshake ends with %v", r.Err)
			}
		})
	}
}

func TestCertificateKeys(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]crypto.Signer{
		"P-256": ecKey(t, elliptic.P256()), "P-384": ecKey(t, elliptic.P384()), "P-521": ecKey(t, elliptic.P521()), "Ed25519": ed,
	}
	for _, bits := range []int{1024, 2048, 4096} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		keys[fmt.Sprint("RSA ", bits)] = key
	}
	for name, key := range keys {
		t.Run(name, func(t *testing.T) { connects(t, oddCertificate(t, key, nil)) })
	}
}

// TestCertificateChain sends more than one certificate: the first counts.
func TestCertificateChain(t *testing.T) {
	cert := oddCertificate(t, ecKey(t, elliptic.P256()), nil)
	for range 3 {
		other := oddCertificate(t, ecKey(t, elliptic.P256()), func(c *tbsCertificate) { c.Serial = big.NewInt(-2) })
		cert.Certificate = append(cert.Certificate, other.Certificate[0])
	}
	cert.Certificate = append(cert.Certificate, []byte("no certificate"))
	connects(t, cert)
}
