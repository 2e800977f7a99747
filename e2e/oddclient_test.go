package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"debug/buildinfo"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
)

// TestOddFingerprints connects with a fingerprint in other spellings, and beside some
// that nobody can read.
func TestOddFingerprints(t *testing.T) {
	s := startServer(t, settings{})
	speaker := s.enterPion(t, "speaker", "fingerprints", pionOptions{})
	speaker.speak(t)
	bare := func(f fingerprint) string { return strings.ReplaceAll(f.Value, ":", "") }
	for name, announce := range map[string]func(fingerprint) []fingerprint{
		"no colons": func(f fingerprint) []fingerprint { return []fingerprint{{Algorithm: f.Algorithm, Value: bare(f)}} },
		"lower case and another name": func(f fingerprint) []fingerprint {
			return []fingerprint{{Algorithm: "SHA256", Value: " " + strings.ToLower(bare(f)) + " "}}
		},
		"beside unreadable ones": func(f fingerprint) []fingerprint {
			return []fingerprint{{Algorithm: "sha-1", Value: "AB"}, {Algorithm: "sha-256", Value: "xyz"}, {}, f}
		},
	} {
		t.Run(name, func(t *testing.T) {
			listener := s.enterPion(t, name, "fingerprints", pionOptions{announce: announce})
			listener.hear(t, speaker.producer)
			eventually(t, hearTimeout, listener.hearing(10))
		})
	}
	t.Run("none that can be read is refused with the reason", func(t *testing.T) {
		c := s.enter(t, "refused", "fingerprints")
		id := c.createTransport(t, "recv").ID
		for value, want := range map[string]string{"AB:CD": "2 bytes, want 32", "xyz": "hexadecimal"} {
			got := c.must(t, "connect-transport", map[string]any{"transportId": id, "dtlsParameters": map[string]any{
				"role": "client", "fingerprints": []any{nil, 7, map[string]any{"algorithm": "sha-256", "value": value}},
			}}, "error")
			if got.text() != "Failed to connect transport" || !strings.Contains(got.Details, want) {
				t.Errorf("%q: %s", value, got.raw)
			}
		}
	})
}

// negativeCertificate has a negative serial number, as FFmpeg makes every second one.
func negativeCertificate(t *testing.T) *webrtc.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial := append([]byte{0x7f}, bytes.Repeat([]byte{0x11}, 7)...)
	template := &x509.Certificate{SerialNumber: new(big.Int).SetBytes(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der[bytes.Index(der, serial)] = 0xff // nobody checks the signature
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	cert := webrtc.CertificateFromX509(key, parsed)
	return &cert
}

// TestNegativeSerialNumber speaks and hears with such a certificate, in both roles.
func TestNegativeSerialNumber(t *testing.T) {
	info, err := buildinfo.ReadFile(bin.worker)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool {
		return s.Key == "DefaultGODEBUG" && strings.Contains(s.Value, "x509negativeserial=1")
	}) {
		t.Error("the worker is built without x509negativeserial=1")
	}
	s := startServer(t, settings{})
	for name, server := range map[string]bool{"DTLS client": false, "DTLS server": true} {
		t.Run(name, func(t *testing.T) {
			options := pionOptions{server: server, certificate: negativeCertificate(t)}
			speaker := s.enterPion(t, "speaker", name, options)
			speaker.speak(t)
			listener := s.enterPion(t, "listener", name, options)
			listener.hear(t, speaker.producer)
			eventually(t, hearTimeout, listener.hearing(10))
		})
	}
}

// TestDtlsFailure announces another fingerprint than the certificate's: client and main
// server are told.
func TestDtlsFailure(t *testing.T) {
	main := newMainServer(t)
	s := startServer(t, settings{main: main})
	wrong := func(f fingerprint) []fingerprint {
		return []fingerprint{{Algorithm: f.Algorithm, Value: strings.Repeat("AB:", 31) + "AB"}}
	}
	u := s.enterPion(t, "bob", interopChannel, pionOptions{announce: wrong})
	u.offer(t)
	if closed := u.expect(t, "transport-closed"); closed.TransportID != u.sendID || closed.Reason != "dtls failed" {
		t.Errorf("told %s", closed.raw)
	}
	eventually(t, answerTimeout, main.got("staged-leave", func(m message) bool {
		return ofBob("media_presence", "staged-leave")(m) && m.Reason == "dtls-failed"
	}))
	u.options.announce = nil
	u.speak(t)
	eventually(t, answerTimeout, main.got("rejoin", ofBob("media_presence", "rejoin")))
}

// TestBrowserCapabilities consumes with all that browsers say of themselves, and with
// oddities beside.
func TestBrowserCapabilities(t *testing.T) {
	files, err := filepath.Glob("../supervisor/testdata/capabilities/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no fixtures", err)
	}
	s := startServer(t, settings{})
	speaker := s.enter(t, "speaker", "capabilities")
	producer := speaker.produce(t, speaker.createTransport(t, "send").ID, "0", 7)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var caps struct {
			Codecs           []any `json:"codecs"`
			HeaderExtensions []any `json:"headerExtensions"`
		}
		if err := json.Unmarshal(b, &caps); err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			caps.Codecs = append([]any{
				7, nil,
				map[string]any{"mimeType": "audio/red", "clockRate": 48000, "parameters": map[string]any{"": "111/111", "x": []any{nil, true}}},
				map[string]any{"kind": "smell", "mimeType": "video/x", "preferredPayloadType": -1, "parameters": []any{}},
			}, caps.Codecs...)
			for range 100 {
				caps.Codecs = append(caps.Codecs, map[string]any{"mimeType": "audio/CN", "clockRate": 8000, "rtcpFeedback": map[string]any{}})
			}
			caps.HeaderExtensions = append(caps.HeaderExtensions, nil, map[string]any{"kind": "smell", "uri": "x", "preferredId": 999})
			for _, inConsume := range []bool{false, true} {
				c := s.enter(t, name, "capabilities")
				consume := map[string]any{"producerId": producer, "transportId": c.createTransport(t, "recv").ID}
				if inConsume {
					consume["rtpCapabilities"] = caps
				} else {
					c.must(t, "client-rtp-capabilities", caps, "rtp-capabilities-ack")
				}
				var got consumerParams
				c.must(t, "consume", consume, "consumer-params").decode(t, &got)
				if len(got.RTPParameters.Codecs) != 1 || got.RTPParameters.Codecs[0].MimeType != "audio/opus" {
					t.Errorf("got %+v", got)
				}
				c.close()
			}
		})
	}
	t.Run("a producer that lists more", func(t *testing.T) {
		c := s.enter(t, "lists more", "capabilities")
		params := opusParameters("0", 77)
		params.Codecs = slices.Concat([]codec{{MimeType: "audio/CN", PayloadType: 13, ClockRate: 8000}}, params.Codecs, []codec{
			{MimeType: "audio/red", PayloadType: 63, ClockRate: 48000, Channels: 2, Parameters: map[string]any{"": "111/111", "x": true}},
		})
		c.must(t, "produce", map[string]any{"transportId": c.createTransport(t, "send").ID, "kind": "audio", "rtpParameters": params}, "producer-id")
	})
}
