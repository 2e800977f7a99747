package handshake

import (
	"bytes"
	"cmp"
	"crypto"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/dspeak/sfu/internal/errs"
)

// Fingerprint is the hash of a certificate as in SDP (RFC 8122): algorithm
// "sha-256", value "AB:CD:…".
type Fingerprint struct {
	Algorithm, Value string
}

// maxFingerprints bounds what a client may announce.
const maxFingerprints = 16

// maxFingerprintBytes bounds a fingerprint's algorithm and value: a SHA-512 digest
// has 191 bytes with its colons.
const maxFingerprintBytes = 512

// ReadFingerprints returns the fingerprints that can be read, each once, in one
// spelling and in one order: the result is the same however the client writes them.
// It accepts hexadecimal digits of either case with any separators or none, and
// leaves out what is malformed or of an unknown algorithm, as another may serve. None
// that can be read, or too many, are an errs.ErrInvalid that says why.
func ReadFingerprints(prints []Fingerprint) ([]Fingerprint, error) {
	parsed, err := parseFingerprints(prints)
	if err != nil {
		return nil, err
	}
	out := make([]Fingerprint, len(parsed))
	for i, p := range parsed {
		out[i] = p.text()
	}
	slices.SortFunc(out, func(a, b Fingerprint) int {
		return cmp.Or(cmp.Compare(a.Algorithm, b.Algorithm), cmp.Compare(a.Value, b.Value))
	})
	return slices.Compact(out), nil
}

// fingerprint is a Fingerprint in binary.
type fingerprint struct {
	hash crypto.Hash
	sum  []byte
}

// text returns p as in SDP.
func (p fingerprint) text() Fingerprint {
	pairs := make([]string, len(p.sum))
	for i, b := range p.sum {
		pairs[i] = fmt.Sprintf("%02X", b)
	}
	return Fingerprint{Algorithm: strings.ToLower(p.hash.String()), Value: strings.Join(pairs, ":")}
}

// parseFingerprints reads those that can be read.
func parseFingerprints(prints []Fingerprint) ([]fingerprint, error) {
	if len(prints) == 0 || len(prints) > maxFingerprints {
		return nil, fmt.Errorf("%d dtls fingerprints, want 1 to %d: %w", len(prints), maxFingerprints, errs.ErrInvalid)
	}
	var out []fingerprint
	var first error
	for _, text := range prints {
		p, err := parseFingerprint(text)
		if err == nil {
			out = append(out, p)
		} else if first == nil {
			first = err
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no usable dtls fingerprint: %w", first)
	}
	return out, nil
}

func parseFingerprint(text Fingerprint) (fingerprint, error) {
	if len(text.Algorithm) > maxFingerprintBytes || len(text.Value) > maxFingerprintBytes {
		return fingerprint{}, fmt.Errorf("fingerprint of %d bytes: %w", len(text.Algorithm)+len(text.Value), errs.ErrInvalid)
	}
	hash, ok := hashOf(text.Algorithm)
	if !ok {
		const shown = 32
		return fingerprint{}, fmt.Errorf("algorithm %q, want sha-256, sha-384 or sha-512: %w",
			text.Algorithm[:min(len(text.Algorithm), shown)], errs.ErrInvalid)
	}
	sum, err := hex.DecodeString(separators.Replace(text.Value))
	if err != nil {
		return fingerprint{}, fmt.Errorf("%s value is no sequence of hexadecimal bytes: %w", hash, errs.ErrInvalid)
	}
	if len(sum) != hash.Size() {
		return fingerprint{}, fmt.Errorf("%s value has %d bytes, want %d: %w", hash, len(sum), hash.Size(), errs.ErrInvalid)
	}
	return fingerprint{hash: hash, sum: sum}, nil
}

// separators may stand between a value's digits and in an algorithm's name.
var separators = strings.NewReplacer(":", "", "-", "", "_", "", ".", "", " ", "", "\t", "", "\r", "", "\n", "") //nolint:gochecknoglobals // immutable

// hashOf returns the hash of an algorithm's name. SHA-1 is refused: collisions
// can be made, and every client offers better.
func hashOf(algorithm string) (crypto.Hash, bool) {
	switch strings.ToLower(separators.Replace(algorithm)) {
	case "sha256":
		return crypto.SHA256, true
	case "sha384":
		return crypto.SHA384, true
	case "sha512":
		return crypto.SHA512, true
	}
	return 0, false
}

func digest(hash crypto.Hash, der []byte) []byte {
	h := hash.New()
	h.Write(der)
	return h.Sum(nil)
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
