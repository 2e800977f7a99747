package handshake

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	_ "crypto/sha256" // for crypto.SHA256
	_ "crypto/sha512" // for crypto.SHA384 and crypto.SHA512
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"github.com/dspeak/sfu/internal/errs"
)

// NewCertificate makes a self-signed ECDSA P-256 certificate and its
// fingerprints (sha-256, sha-384, sha-512). It is valid for ten years: its
// fingerprint, not its dates, is what clients check.
func NewCertificate() (tls.Certificate, []Fingerprint, error) {
	const (
		serialBits = 127 // positive, and at most 20 octets (RFC 5280 section 4.1.2.2)
		years      = 10
	)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("generate key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("draw serial number: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "sfu"},
		NotBefore:    now.AddDate(0, 0, -1), // clocks of clients differ
		NotAfter:     now.AddDate(years, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("create certificate: %w", err)
	}
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	prints, err := FingerprintsOf(cert)
	return cert, prints, err
}

// MarshalCertificate is a certificate with its key as ParseCertificate reads them.
func MarshalCertificate(cert tls.Certificate) ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	var b []byte
	for _, der := range cert.Certificate {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return append(b, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...), nil
}

// ParseCertificate undoes MarshalCertificate. Anything else is an errs.ErrInvalid.
func ParseCertificate(b []byte) (tls.Certificate, error) {
	cert, err := tls.X509KeyPair(b, b)
	if err != nil {
		return cert, fmt.Errorf("read certificate: %w: %w", err, errs.ErrInvalid)
	}
	return cert, nil
}

// FingerprintsOf returns the fingerprints (sha-256, sha-384, sha-512) of a
// certificate. An empty one is an errs.ErrInvalid.
func FingerprintsOf(cert tls.Certificate) ([]Fingerprint, error) {
	if len(cert.Certificate) == 0 {
		return nil, fmt.Errorf("fingerprint of no certificate: %w", errs.ErrInvalid)
	}
	var out []Fingerprint
	for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		out = append(out, fingerprint{hash: hash, sum: digest(hash, cert.Certificate[0])}.text())
	}
	return out, nil
}
