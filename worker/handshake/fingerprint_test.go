package handshake

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/dspeak/sfu/internal/errs"
)

// spellings of one SHA-256 fingerprint, by name.
func spellings(p Fingerprint) map[string]Fingerprint {
	bare := strings.ReplaceAll(p.Value, ":", "")
	return map[string]Fingerprint{
		"as in SDP":           p,
		"lower case":          {p.Algorithm, strings.ToLower(p.Value)},
		"without colons":      {p.Algorithm, bare},
		"lower, no colons":    {p.Algorithm, strings.ToLower(bare)},
		"with blanks":         {p.Algorithm, strings.ReplaceAll(p.Value, ":", " ")},
		"with blanks around":  {" " + p.Algorithm + "\t", "  " + p.Value + " \r\n"},
		"with hyphens":        {p.Algorithm, strings.ReplaceAll(p.Value, ":", "-")},
		"colons and blanks":   {p.Algorithm, strings.ReplaceAll(p.Value, ":", ": ")},
		"algorithm in upper":  {"SHA-256", p.Value},
		"algorithm in one":    {"sha256", p.Value},
		"algorithm like Java": {"SHA_256", p.Value},
	}
}

// TestSpellingsOfFingerprints does a handshake for each.
func TestSpellingsOfFingerprints(t *testing.T) {
	cert, prints := newCert(t)
	want, err := ReadFingerprints(prints[:1])
	if err != nil || !slices.Equal(want, prints[:1]) {
		t.Fatalf("as in SDP is read as %v, %v", want, err)
	}
	for name, p := range spellings(prints[0]) {
		t.Run(name, func(t *testing.T) {
			if got, err := ReadFingerprints([]Fingerprint{p}); err != nil || !slices.Equal(got, want) {
				t.Errorf("read as %v, %v", got, err)
			}
			l := newLink(t, newPool(t, Config{}), setup{role: Server, cert: cert, prints: []Fingerprint{p}})
			defer l.close()
			l.mustFinish()
		})
	}
}

func TestReadFingerprints(t *testing.T) {
	_, p := newCert(t)
	lower := Fingerprint{p[0].Algorithm, strings.ToLower(p[0].Value)}
	for name, row := range map[string]struct{ in, want []Fingerprint }{
		"order and repetition": {[]Fingerprint{p[2], lower, p[1], p[0], p[2]}, p},
		"unknown beside good":  {[]Fingerprint{{"sha-1", "AB"}, {"", ""}, {"md5", p[0].Value}, p[1]}, p[1:2]},
		"short beside good":    {[]Fingerprint{{"sha-256", p[0].Value[3:]}, p[2]}, p[2:]},
		"nonsense beside good": {[]Fingerprint{{"sha-256", "zz"}, {"sha-256", strings.Repeat("A", 5000)}, p[0]}, p[:1]},
		"of another length":    {[]Fingerprint{{"sha-512", p[0].Value}, p[0]}, p[:1]},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := ReadFingerprints(row.in); err != nil || !slices.Equal(got, row.want) {
				t.Errorf("got %v, %v, want %v", got, err, row.want)
			}
		})
	}
	for name, row := range map[string]struct {
		in   []Fingerprint
		text string
	}{
		"none":           {nil, "0 dtls fingerprints"},
		"too many":       {make([]Fingerprint, 17), "17 dtls fingerprints"},
		"SHA-1":          {[]Fingerprint{{"sha-1", "AB"}}, `algorithm "sha-1", want sha-256`},
		"short":          {[]Fingerprint{{"sha-256", p[0].Value[3:]}}, "31 bytes, want 32"},
		"odd digits":     {[]Fingerprint{{"sha-256", p[0].Value[1:]}}, "no sequence of hexadecimal bytes"},
		"no digits":      {[]Fingerprint{{"sha-256", "zz" + p[0].Value[2:]}}, "no sequence of hexadecimal bytes"},
		"empty":          {[]Fingerprint{{"sha-256", ""}}, "0 bytes, want 32"},
		"long":           {[]Fingerprint{{"sha-256", strings.Repeat("AB:", 400)}}, "fingerprint of 1207 bytes"},
		"long algorithm": {[]Fingerprint{{strings.Repeat("x", 100), "AB"}}, `algorithm "` + strings.Repeat("x", 32) + `"`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ReadFingerprints(row.in)
			if !errors.Is(err, errs.ErrInvalid) || !strings.Contains(err.Error(), row.text) || len(err.Error()) > 300 {
				t.Errorf("got %v, %v, want %q", got, err, row.text)
			}
		})
	}
}

func FuzzReadFingerprints(f *testing.F) {
	f.Add("sha-256", strings.Repeat("AB:", 31)+"AB")
	f.Add("SHA512", strings.Repeat("0a", 64))
	f.Add("sha-1", "x")
	f.Fuzz(func(t *testing.T, algorithm, value string) {
		once, err := ReadFingerprints([]Fingerprint{{algorithm, value}})
		if err != nil {
			return
		}
		if again, err := ReadFingerprints(once); err != nil || !slices.Equal(again, once) {
			t.Fatalf("%v becomes %v, %v", once, again, err)
		}
	})
}
