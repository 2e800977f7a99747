package supervisor

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dspeak/sfu/internal/errs"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
)

// browserCapabilities are what mediasoup-client makes of a browser's own offer, by
// the browser's name.
func browserCapabilities(tb testing.TB) map[string][]byte {
	tb.Helper()
	files, err := filepath.Glob("testdata/capabilities/*.json")
	if err != nil || len(files) == 0 {
		tb.Fatal("no fixtures", err)
	}
	all := map[string][]byte{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".json")] = b
	}
	return all
}

// opusOf is the capabilities' only Opus codec.
func opusOf(t *testing.T, caps *workerv1.RtpCapabilities) *workerv1.RtpCodecCapability {
	t.Helper()
	var found *workerv1.RtpCodecCapability
	for _, c := range caps.GetCodecs() {
		if strings.EqualFold(c.GetMimeType(), "audio/opus") {
			if found != nil {
				t.Fatal("Opus is there twice")
			}
			found = c
		}
	}
	if found.GetClockRate() != 48000 || found.GetChannels() != 2 {
		t.Fatalf("Opus is read as %v", found)
	}
	return found
}

func TestBrowserCapabilities(t *testing.T) {
	for browser, b := range browserCapabilities(t) {
		t.Run(browser, func(t *testing.T) {
			caps, err := capabilitiesFrom(b)
			if err != nil {
				t.Fatal(err)
			}
			opusOf(t, caps)
			for _, c := range caps.GetCodecs() {
				if !isAudio(c.GetMimeType()) {
					t.Errorf("%s is kept", c.GetMimeType())
				}
			}
			packed, err := (&user{capabilities: caps}).appData(time.Now(), caps)
			if err != nil || len(packed) < len(caps.GetCodecs()) {
				t.Errorf("%d bytes of app data: %v", len(packed), err)
			}
		})
	}
}

// TestOddCapabilities puts one odd entry or field after the other beside Opus.
func TestOddCapabilities(t *testing.T) {
	const opus = `{"kind":"audio","mimeType":"audio/opus","preferredPayloadType":100,"clockRate":48000,"channels":2,"rtcpFeedback":[{"type":"nack"}]}`
	for _, entry := range []string{
		`null`, `7`, `"x"`, `[]`, `{}`, `{"kind":7}`, `{"mimeType":null}`, `{"mimeType":["audio/opus"]}`,
		`{"kind":"audio","mimeType":"audio/red","clockRate":48000,"parameters":{"":"111/111"}}`,
		`{"mimeType":"audio/red","clockRate":"x","parameters":[]}`, `{"mimeType":"audio/CN","clockRate":-1}`, `{"mimeType":"audio/CN","clockRate":1e99}`,
		`{"kind":"smell","mimeType":"video/H264","preferredPayloadType":1.5,"parameters":{"a":{"b":[null,true]},"c":0.1}}`,
		`{"mimeType":"video/VP8","rtcpFeedback":{"type":"nack"}}`, `{"mimeType":"audio/PCMU","mimeType":"audio/PCMA"}`,
	} {
		for _, list := range []string{entry + "," + opus, opus + "," + entry} {
			caps, err := capabilitiesFrom([]byte(`{"codecs":[` + list + `],"headerExtensions":7}`))
			if err != nil {
				t.Errorf("%s: %v", entry, err)
				continue
			}
			if fb := opusOf(t, caps).GetRtcpFeedback(); len(fb) != 1 || fb[0].GetType() != "nack" {
				t.Errorf("%s: feedback %v", entry, fb)
			}
		}
	}
	for _, field := range []string{
		`"kind":7`, `"kind":null`, `"kind":"smell"`, `"preferredPayloadType":-1`, `"preferredPayloadType":"x"`, `"preferredPayloadType":{}`,
		`"parameters":null`, `"parameters":[]`, `"parameters":{"":null,"a":[{}],"b":true}`, `"parameters":"useinbandfec=1"`,
		`"rtcpFeedback":null`, `"rtcpFeedback":[null,7,{"type":1},{"type":"nack"},{"type":"x","parameter":{}}]`, `"x":1`,
	} {
		caps, err := capabilitiesFrom([]byte(`{"codecs":[{"mimeType":"audio/opus","clockRate":48000,"channels":2,` + field + `}]}`))
		if err != nil {
			t.Errorf("%s: %v", field, err)
			continue
		}
		fb := opusOf(t, caps).GetRtcpFeedback()
		if strings.Contains(field, `"nack"`) && (len(fb) != 1 || fb[0].GetType() != "nack") {
			t.Errorf("%s: feedback %v", field, fb)
		}
	}
}

func TestOddHeaderExtensions(t *testing.T) {
	caps, err := capabilitiesFrom([]byte(`{"codecs":[],"headerExtensions":[null,7,{"uri":1},{"kind":"video","uri":"urn:v","preferredId":1},
		{"kind":"audio","uri":"urn:a","preferredId":"x"},{"kind":"audio","uri":"urn:b","preferredId":2,"direction":"sendrecv"},{"uri":"urn:c","preferredId":3}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if e := caps.GetHeaderExtensions(); len(e) != 2 || e[0].GetUri() != "urn:b" || e[1].GetUri() != "urn:c" {
		t.Errorf("got %v", e)
	}
}

func TestManyCapabilities(t *testing.T) {
	const entry = `{"mimeType":"audio/x","clockRate":1},`
	caps, err := capabilitiesFrom([]byte(`{"codecs":[` + strings.TrimSuffix(strings.Repeat(entry, 3000), ",") + `]}`))
	if err != nil || len(caps.GetCodecs()) != maxEntries {
		t.Errorf("%d codecs, %v", len(caps.GetCodecs()), err)
	}
}

func TestUnreadableCapabilities(t *testing.T) {
	for _, text := range []string{`7`, `{}`, `{"codecs":7}`, `{"codecs":{}}`, `{"codecs":[7]}`, `{"codecs":[{"kind":"audio"},null]}`} {
		if caps, err := capabilitiesFrom([]byte(text)); !errors.Is(err, errs.ErrInvalid) {
			t.Errorf("%s is read as %v, %v", text, caps, err)
		}
	}
}

func TestDtlsParametersFrom(t *testing.T) {
	const good = `{"algorithm":"sha-256","value":"AB"}`
	for _, list := range []string{good, `null,` + good, good + `,{"algorithm":"sha-256","value":7}`, `{"algorithm":[]},"x",` + good} {
		p, err := dtlsParametersFrom([]byte(`{"role":"client","fingerprints":[` + list + `],"x":1}`))
		if err != nil || p.GetRole() != "client" || len(p.GetFingerprints()) != 1 || p.GetFingerprints()[0].GetValue() != "AB" {
			t.Errorf("%s: %v %v", list, p, err)
		}
	}
	for _, text := range []string{
		`7`, `{"fingerprints":7}`, `{"fingerprints":[7]}`, `{"fingerprints":[{"value":1}]}`, `{"role":7,"fingerprints":[` + good + `]}`,
		`{"role":[],"fingerprints":[7,` + good + `]}`,
	} {
		if p, err := dtlsParametersFrom([]byte(text)); !errors.Is(err, errs.ErrInvalid) {
			t.Errorf("%s is read as %v, %v", text, p, err)
		}
	}
}

func FuzzCapabilities(f *testing.F) {
	for _, b := range browserCapabilities(f) {
		f.Add(b)
	}
	f.Add([]byte(`{"codecs":[{"mimeType":"audio/opus","clockRate":"48000","rtcpFeedback":[{"type":"nack"},7]}],"headerExtensions":[{"uri":"x"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		caps, err := capabilitiesFrom(b)
		if err != nil || !json.Valid(b) {
			return
		}
		packed, err := proto.Marshal(caps)
		if err != nil {
			t.Fatal(err)
		}
		if err := proto.Unmarshal(packed, &workerv1.RtpCapabilities{}); err != nil {
			t.Fatal(err)
		}
	})
}
