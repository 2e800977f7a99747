package ortc

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/dspeak/sfu/internal/errs"
)

func TestRouterRtpCapabilities(t *testing.T) {
	caps := RouterRtpCapabilities()
	want := RtpCodecCapability{
		Kind: "audio", MimeType: "audio/opus", PreferredPayloadType: 100, ClockRate: 48000, Channels: 2,
		Parameters:   Parameters{"useinbandfec": int64(1)},
		RtcpFeedback: []RtcpFeedback{{Type: "nack"}, {Type: "transport-cc"}},
	}
	if len(caps.Codecs) != 1 || !reflect.DeepEqual(caps.Codecs[0], want) {
		t.Errorf("codecs %+v", caps.Codecs)
	}
	extensions := []RtpHeaderExtension{
		{Kind: "audio", URI: URIMid, PreferredID: 1, Direction: "sendrecv"},
		{Kind: "audio", URI: URIAbsSendTime, PreferredID: 4, Direction: "sendrecv"},
		{Kind: "audio", URI: URITransportWideCC, PreferredID: 5, Direction: "recvonly"},
		{Kind: "audio", URI: URIAudioLevel, PreferredID: 10, Direction: "sendrecv"},
	}
	if !reflect.DeepEqual(caps.HeaderExtensions, extensions) {
		t.Errorf("header extensions %+v", caps.HeaderExtensions)
	}
	caps.Codecs[0].Parameters["useinbandfec"] = int64(0)
	if RouterRtpCapabilities().Codecs[0].Parameters["useinbandfec"] != int64(1) {
		t.Error("two calls share memory")
	}
}

func TestProducerRtpMapping(t *testing.T) {
	for name, row := range map[string]struct {
		params RtpParameters
		from   uint8
	}{
		"chromium": {chromiumParameters(), 111},
		"firefox":  {firefoxParameters(), 109},
	} {
		t.Run(name, func(t *testing.T) {
			mapping, err := ProducerRtpMapping(row.params, RouterRtpCapabilities())
			if want := []Mapping{{PayloadType: row.from, MappedPayloadType: 100}}; err != nil || !slices.Equal(mapping, want) {
				t.Fatalf("got %v, %v, want %v", mapping, err, want)
			}
		})
	}
}

func TestProducerRtpMappingRefusals(t *testing.T) {
	codec := func(mimeType string, pt uint8, params Parameters) RtpCodecParameters {
		return RtpCodecParameters{MimeType: mimeType, PayloadType: pt, ClockRate: 48000, Channels: 2, Parameters: params}
	}
	for name, row := range map[string]struct {
		spoil func(*RtpParameters)
		want  error
		text  string
	}{
		"malformed":     {func(p *RtpParameters) { p.Codecs = nil }, errs.ErrInvalid, "0 codecs"},
		"unknown codec": {func(p *RtpParameters) { p.Codecs[0].MimeType = "audio/PCMA" }, errs.ErrUnsupported, "codec audio/PCMA"},
		"video":         {func(p *RtpParameters) { p.Codecs[0].MimeType = "video/VP8" }, errs.ErrUnsupported, "codec video/VP8"},
		"multi opus":    {func(p *RtpParameters) { p.Codecs[0].MimeType = "audio/multiopus" }, errs.ErrUnsupported, "multiopus"},
		"other rate":    {func(p *RtpParameters) { p.Codecs[0].ClockRate = 8000 }, errs.ErrUnsupported, "8000 Hz"},
		"mono":          {func(p *RtpParameters) { p.Codecs[0].Channels = 0 }, errs.ErrUnsupported, "1 channels"},
		"second codec":  {func(p *RtpParameters) { p.Codecs = append(p.Codecs, codec("audio/red", 63, nil)) }, errs.ErrUnsupported, "audio/red"},
		"opus twice": {
			func(p *RtpParameters) { p.Codecs = append(p.Codecs, codec("audio/OPUS", 112, nil)) },
			errs.ErrInvalid, "codec audio/OPUS is there twice",
		},
		"rtx of the codec": {
			func(p *RtpParameters) {
				p.Codecs = append(p.Codecs, codec("audio/rtx", 112, Parameters{"apt": int64(111)}))
			},
			errs.ErrUnsupported, "codec audio/rtx for payload type 111",
		},
		"rtx of nothing": {
			func(p *RtpParameters) {
				p.Codecs = append(p.Codecs, codec("audio/rtx", 112, Parameters{"apt": int64(110)}))
			},
			errs.ErrInvalid, "apt names no media codec",
		},
		"rtx of itself": {
			func(p *RtpParameters) { p.Codecs[0] = codec("audio/RTX", 112, Parameters{"apt": int64(112)}) },
			errs.ErrInvalid, "apt names no media codec",
		},
		"rtx without apt": {
			func(p *RtpParameters) { p.Codecs = append(p.Codecs, codec("audio/rtx", 112, nil)) },
			errs.ErrInvalid, "apt names no media codec",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := chromiumParameters()
			row.spoil(&p)
			_, err := ProducerRtpMapping(p, RouterRtpCapabilities())
			if !errors.Is(err, row.want) || !strings.Contains(err.Error(), row.text) {
				t.Fatalf("got %v, want %v with %q", err, row.want, row.text)
			}
		})
	}
}

func TestConsumableRtpParameters(t *testing.T) {
	for name, p := range map[string]RtpParameters{"chromium": chromiumParameters(), "firefox": firefoxParameters()} {
		t.Run(name, func(t *testing.T) {
			want := RtpParameters{
				Codecs: []RtpCodecParameters{{
					MimeType: "audio/opus", PayloadType: 100, ClockRate: 48000, Channels: 2,
					Parameters:   p.Codecs[0].Parameters, // stereo, FEC and DTX reach the listeners
					RtcpFeedback: []RtcpFeedback{{Type: "nack"}, {Type: "transport-cc"}},
				}},
				HeaderExtensions: []RtpHeaderExtensionParameters{{URI: URIMid, ID: 1}, {URI: URIAbsSendTime, ID: 4}, {URI: URIAudioLevel, ID: 10}},
				Encodings:        p.Encodings,
				Rtcp:             RtcpParameters{CNAME: p.Rtcp.CNAME, ReducedSize: new(true), Mux: new(true)},
			}
			got := consumable(t, p)
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("got  %+v\nwant %+v", got, want)
			}
			got.Codecs[0].Parameters["x"] = int64(1)
			if _, shared := p.Codecs[0].Parameters["x"]; shared {
				t.Fatal("shares memory with the producer's parameters")
			}
		})
	}
}

func TestConsumableKeepsNoStreamID(t *testing.T) {
	p := chromiumParameters()
	p.Encodings[0].RID, p.Encodings[0].CodecPayloadType, p.Encodings[0].DTX = "hi", 111, true
	want := []RtpEncodingParameters{{SSRC: 2874160933, DTX: true, MaxBitrate: 64000}}
	if got := consumable(t, p).Encodings; !slices.Equal(got, want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

func TestConsumableRefusals(t *testing.T) {
	for name, row := range map[string]struct {
		kind    string
		mapping []Mapping
		want    error
	}{
		"video":                 {"video", []Mapping{{111, 100}}, errs.ErrUnsupported},
		"no kind":               {"", []Mapping{{111, 100}}, errs.ErrUnsupported},
		"unmapped payload type": {"audio", nil, errs.ErrInvalid},
		"mapped to nothing":     {"audio", []Mapping{{111, 99}}, errs.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ConsumableRtpParameters(row.kind, chromiumParameters(), RouterRtpCapabilities(), row.mapping)
			if !errors.Is(err, row.want) {
				t.Fatalf("got %v, want %v", err, row.want)
			}
		})
	}
}

func TestConsumerGetsWhatItSupports(t *testing.T) {
	all := []string{URIMid, URIAbsSendTime, URIAudioLevel}
	for name, row := range map[string]struct {
		caps       RtpCapabilities
		spoil      func(*RtpCapabilities)
		extensions []string
		feedback   []string
	}{
		"chromium":       {caps: chromiumDevice(), extensions: all, feedback: []string{"nack"}},
		"shipped client": {caps: shippedDevice(), extensions: all, feedback: []string{"nack"}},
		"firefox":        {caps: firefoxDevice(), extensions: []string{URIMid, URIAudioLevel}, feedback: []string{"nack"}},
		"native numbers": {caps: nativeChromium()},
		"no extensions": {
			caps: chromiumDevice(), spoil: func(c *RtpCapabilities) { c.HeaderExtensions = nil }, feedback: []string{"nack"},
		},
		"no feedback": {
			caps: chromiumDevice(), spoil: func(c *RtpCapabilities) { c.Codecs[0].RtcpFeedback = nil }, extensions: all,
		},
		"extension under another id": {
			caps: chromiumDevice(), spoil: func(c *RtpCapabilities) { c.HeaderExtensions[0].PreferredID = 9 },
			extensions: []string{URIAbsSendTime, URIAudioLevel}, feedback: []string{"nack"},
		},
		"transport-wide numbers are not offered": {
			caps: chromiumDevice(),
			spoil: func(c *RtpCapabilities) {
				c.HeaderExtensions = append(c.HeaderExtensions, RtpHeaderExtension{Kind: "audio", URI: URITransportWideCC, PreferredID: 5})
			},
			extensions: all, feedback: []string{"nack"},
		},
		"type in other case": {
			caps: chromiumDevice(), spoil: func(c *RtpCapabilities) { c.Codecs[0].MimeType = "AUDIO/Opus" },
			extensions: all, feedback: []string{"nack"},
		},
		"no codec parameters": {
			caps: chromiumDevice(), spoil: func(c *RtpCapabilities) { c.Codecs[0].Parameters = nil },
			extensions: all, feedback: []string{"nack"},
		},
		"bandwidth estimate with abs-send-time": {
			caps: chromiumDevice(),
			spoil: func(c *RtpCapabilities) {
				c.Codecs[0].RtcpFeedback = []RtcpFeedback{{Type: "goog-remb"}, {Type: "transport-cc"}}
			},
			extensions: all, feedback: []string{"goog-remb"},
		},
		"bandwidth estimate without any extension": {
			caps: chromiumDevice(),
			spoil: func(c *RtpCapabilities) {
				c.Codecs[0].RtcpFeedback = []RtcpFeedback{{Type: "goog-remb"}, {Type: "transport-cc"}}
				c.HeaderExtensions = nil
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if row.spoil != nil {
				row.spoil(&row.caps)
			}
			for speaker, p := range map[string]RtpParameters{"chromium": chromiumParameters(), "firefox": firefoxParameters()} {
				base := consumable(t, p)
				got, err := ConsumerRtpParameters(base, row.caps, 77, "5")
				if err != nil {
					t.Fatalf("cannot consume %s: %v", speaker, err)
				}
				checkConsumer(t, got, base, row.extensions, row.feedback)
			}
		})
	}
}

func checkConsumer(t *testing.T, got, base RtpParameters, extensions, feedback []string) {
	t.Helper()
	if err := ValidateRtpParameters(got); err != nil {
		t.Errorf("a consumer's parameters are malformed: %v", err)
	}
	var uris, types []string
	for _, e := range got.HeaderExtensions {
		uris = append(uris, e.URI)
	}
	if len(got.Codecs) != 1 {
		t.Fatalf("codecs %+v", got.Codecs)
	}
	for _, fb := range got.Codecs[0].RtcpFeedback {
		types = append(types, fb.Type)
	}
	if !slices.Equal(uris, extensions) || !slices.Equal(types, feedback) {
		t.Errorf("extensions %v, feedback %v, want %v, %v", uris, types, extensions, feedback)
	}
	if got.Codecs[0].PayloadType != 100 || !reflect.DeepEqual(got.Codecs[0].Parameters, base.Codecs[0].Parameters) {
		t.Errorf("codec %+v", got.Codecs[0])
	}
	want := []RtpEncodingParameters{{SSRC: 77, MaxBitrate: base.Encodings[0].MaxBitrate}}
	if got.Mid != "5" || !slices.Equal(got.Encodings, want) || got.Rtcp.CNAME != base.Rtcp.CNAME {
		t.Errorf("mid %q, encodings %+v, rtcp %+v", got.Mid, got.Encodings, got.Rtcp)
	}
}

func TestFeedbackWithTransportWideNumbers(t *testing.T) {
	base := consumable(t, chromiumParameters())
	base.HeaderExtensions = append(base.HeaderExtensions, RtpHeaderExtensionParameters{URI: URITransportWideCC, ID: 5})
	caps := chromiumDevice()
	caps.HeaderExtensions = append(caps.HeaderExtensions, RtpHeaderExtension{Kind: "audio", URI: URITransportWideCC, PreferredID: 5})
	caps.Codecs[0].RtcpFeedback = []RtcpFeedback{{Type: "goog-remb"}, {Type: "transport-cc"}, {Type: "nack"}}
	got, err := ConsumerRtpParameters(base, caps, 1, "0")
	if err != nil {
		t.Fatal(err)
	}
	if want := []RtcpFeedback{{Type: "transport-cc"}, {Type: "nack"}}; !slices.Equal(got.Codecs[0].RtcpFeedback, want) {
		t.Fatalf("got %v, want %v", got.Codecs[0].RtcpFeedback, want)
	}
	if len(caps.Codecs[0].RtcpFeedback) != 3 || caps.Codecs[0].RtcpFeedback[0].Type != "goog-remb" {
		t.Fatalf("the endpoint's capabilities were changed: %v", caps.Codecs[0].RtcpFeedback)
	}
}

func TestNothingInCommon(t *testing.T) {
	base := consumable(t, chromiumParameters())
	for name, row := range map[string]struct {
		spoil func(*RtpCapabilities)
		want  error
	}{
		"no codecs":      {func(c *RtpCapabilities) { c.Codecs = nil }, errs.ErrUnsupported},
		"other codec":    {func(c *RtpCapabilities) { c.Codecs[0].MimeType = "audio/PCMU" }, errs.ErrUnsupported},
		"only rtx":       {func(c *RtpCapabilities) { c.Codecs[0].MimeType = "audio/rtx" }, errs.ErrUnsupported},
		"other rate":     {func(c *RtpCapabilities) { c.Codecs[0].ClockRate = 8000 }, errs.ErrUnsupported},
		"mono":           {func(c *RtpCapabilities) { c.Codecs[0].Channels = 1 }, errs.ErrUnsupported},
		"channels unset": {func(c *RtpCapabilities) { c.Codecs[0].Channels = 0 }, errs.ErrUnsupported},
		"malformed":      {func(c *RtpCapabilities) { c.Codecs[0].MimeType = "opus" }, errs.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			caps := chromiumDevice()
			row.spoil(&caps)
			if _, err := ConsumerRtpParameters(base, caps, 1, "0"); !errors.Is(err, row.want) {
				t.Fatalf("got %v, want %v", err, row.want)
			}
		})
	}
}
