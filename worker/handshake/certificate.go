package handshake

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	_ "crypto/sha256" // for crypto.SHA256
	_ "crypto/sha512" // for crypto.SHA384 and crypto.SHA512
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/dspeak/sfu/internal/errs"
)

// Fingerprint is the hash of a certificate as in SDP (RFC 8122): algorithm
// "sha-256", value "AB:CD:…". Both compare without regard to case.
type Fingerprint struct {
	Algorithm, Value string
}

// hashOf returns the hash of an algorithm's name. SHA-1 is refused: collisions
// can be made, and every client offers better.
func hashOf(algorithm string) (crypto.Hash, bool) {
	switch strings.ToLower(algorithm) {
	case "sha-256":
		return crypto.SHA256, true
	case "sha-384":
		return crypto.SHA384, true
	case "sha-512":
		return crypto.SHA512, true
	}
	return 0, false
}

func digest(hash crypto.Hash, der []byte) []byte {
	h := hash.New()
	h.Write(der)
	return h.Sum(nil)
}

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
	for _, algorithm := range []string{"sha-256", "sha-384", "sha-512"} {
		hash, _ := hashOf(algorithm)
		sum := digest(hash, cert.Certificate[0])
		pairs := make([]string, len(sum))
		for i, b := range sum {
			pairs[i] = fmt.Sprintf("%02X", b)
		}
		out = append(out, Fingerprint{Algorithm: algorithm, Value: strings.Join(pairs, ":")})
	}
	return out, nil
}

// fingerprint is a Fingerprint in binary.
type fingerprint struct {
	hash crypto.Hash
	sum  []byte
}

// maxFingerprints bounds what a client may announce.
const maxFingerprints = 16

// parseFingerprints reads the announced fingerprints. Unknown algorithms are
// left out; none that counts, or a malformed one, is an errs.ErrInvalid.
func parseFingerprints(prints []Fingerprint) ([]fingerprint, error) {
	if len(prints) > maxFingerprints {
		return nil, fmt.Errorf("%d fingerprints, at most %d: %w", len(prints), maxFingerprints, errs.ErrInvalid)
	}
	var out []fingerprint
	for _, p := range prints {
		hash, ok := hashOf(p.Algorithm)
		if !ok {
			continue
		}
		const charsPerByte = 3 // two digits and a colon
		sum, err := hex.DecodeString(strings.ReplaceAll(p.Value, ":", ""))
		if err != nil || len(sum) != hash.Size() || len(p.Value) != charsPerByte*len(sum)-1 {
			return nil, fmt.Errorf("malformed %s fingerprint: %w", strings.ToLower(p.Algorithm), errs.ErrInvalid)
		}
		out = append(out, fingerprint{hash: hash, sum: sum})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no sha-256, sha-384 or sha-512 fingerprint: %w", errs.ErrInvalid)
	}
	return out, nil
}

// matchesAny reports whether a certificate has one of the fingerprints.
func matchesAny(der []byte, prints []fingerprint) bool {
	for _, p := range prints {
		if bytes.Equal(digest(p.hash, der), p.sum) {
			return true
		}
	}
	return false
}
