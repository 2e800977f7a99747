package ortc

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/dspeak/sfu/internal/errs"
)

// chromium is what a producer of mediasoup-client in Chromium sends.
func chromium() RtpParameters {
	return RtpParameters{
		Mid: "0",
		Codecs: []RtpCodecParameters{{
			MimeType: "audio/opus", PayloadType: 111, ClockRate: 48000, Channels: 2,
			Parameters:   Parameters{"minptime": int64(10), "useinbandfec": int64(1), "sprop-stereo": int64(1), "usedtx": int64(1)},
			RtcpFeedback: []RtcpFeedback{{Type: "transport-cc"}, {Type: "nack"}},
		}},
		HeaderExtensions: []RtpHeaderExtensionParameters{
			{URI: URIMid, ID: 4}, {URI: URIAbsSendTime, ID: 2}, {URI: URITransportWideCC, ID: 3}, {URI: URIAudioLevel, ID: 1},
		},
		Encodings: []RtpEncodingParameters{{SSRC: 1234567, DTX: true}},
		Rtcp:      RtcpParameters{CNAME: "abc"},
	}
}

// browser is what mediasoup-client announces after it loaded the router's capabilities.
func browser() RtpCapabilities {
	return RtpCapabilities{
		Codecs: []RtpCodecCapability{{
			Kind: "audio", MimeType: "audio/opus", PreferredPayloadType: 100, ClockRate: 48000, Channels: 2,
			Parameters:   Parameters{"minptime": int64(10), "useinbandfec": int64(1), "sprop-stereo": int64(1), "usedtx": int64(1)},
			RtcpFeedback: []RtcpFeedback{{Type: "transport-cc"}, {Type: "nack"}},
		}},
		HeaderExtensions: []RtpHeaderExtension{
			{Kind: "audio", URI: URIMid, PreferredID: 1, Direction: "sendrecv"},
			{Kind: "audio", URI: URIAbsSendTime, PreferredID: 4, Direction: "sendrecv"},
			{Kind: "audio", URI: URITransportWideCC, PreferredID: 5, Direction: "sendrecv"},
			{Kind: "audio", URI: URIAudioLevel, PreferredID: 10, Direction: "sendrecv"},
		},
	}
}

func consumable(t *testing.T, p RtpParameters) RtpParameters {
	t.Helper()
	caps := RouterRtpCapabilities()
	mapping, err := ProducerRtpMapping(p, caps)
	if err != nil {
		t.Fatal(err)
	}
	out, err := ConsumableRtpParameters("audio", p, caps, mapping)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRouterCapabilitiesAreValid(t *testing.T) {
	if err := ValidateRtpCapabilities(RouterRtpCapabilities()); err != nil {
		t.Fatal(err)
	}
}

func TestConsumableKeepsProducersOpusParameters(t *testing.T) {
	p := chromium()
	c := consumable(t, p)
	if got := c.Codecs[0]; got.PayloadType != 100 || !reflect.DeepEqual(got.Parameters, p.Codecs[0].Parameters) {
		t.Fatalf("codec %+v", got)
	}
	var ids []uint8
	for _, e := range c.HeaderExtensions {
		ids = append(ids, e.ID)
	}
	if !reflect.DeepEqual(ids, []uint8{1, 4, 10}) {
		t.Fatalf("extensions %v, want mid, abs-send-time and audio level under the router's ids", ids)
	}
	if c.Rtcp.CNAME != "abc" || !*c.Rtcp.ReducedSize {
		t.Fatalf("rtcp %+v", c.Rtcp)
	}
}

func TestConsumerGetsWhatItSupports(t *testing.T) {
	base := consumable(t, chromium())
	for name, row := range map[string]struct {
		spoil      func(*RtpCapabilities)
		extensions int
		feedback   []string
	}{
		"everything":     {func(*RtpCapabilities) {}, 3, []string{"nack"}},
		"no extensions":  {func(c *RtpCapabilities) { c.HeaderExtensions = nil }, 0, []string{"nack"}},
		"no nack":        {func(c *RtpCapabilities) { c.Codecs[0].RtcpFeedback = nil }, 3, nil},
		"other ids":      {func(c *RtpCapabilities) { c.HeaderExtensions[0].PreferredID = 9 }, 2, []string{"nack"}},
		"case of type":   {func(c *RtpCapabilities) { c.Codecs[0].MimeType = "AUDIO/Opus" }, 3, []string{"nack"}},
		"other fmtp":     {func(c *RtpCapabilities) { c.Codecs[0].Parameters = Parameters{"stereo": "1"} }, 3, []string{"nack"}},
		"remb preferred": {func(c *RtpCapabilities) { c.Codecs[0].RtcpFeedback = []RtcpFeedback{{Type: "goog-remb"}} }, 3, []string{"goog-remb"}},
	} {
		t.Run(name, func(t *testing.T) {
			caps := browser()
			row.spoil(&caps)
			if !CanConsume(base, caps) {
				t.Fatal("cannot consume")
			}
			p, err := ConsumerRtpParameters(base, caps, 77, "5")
			if err != nil {
				t.Fatal(err)
			}
			var feedback []string
			for _, fb := range p.Codecs[0].RtcpFeedback {
				feedback = append(feedback, fb.Type)
			}
			if len(p.HeaderExtensions) != row.extensions || !reflect.DeepEqual(feedback, row.feedback) {
				t.Fatalf("extensions %v, feedback %v", p.HeaderExtensions, feedback)
			}
			if p.Mid != "5" || len(p.Encodings) != 1 || p.Encodings[0].SSRC != 77 {
				t.Fatalf("mid %q, encodings %+v", p.Mid, p.Encodings)
			}
		})
	}
}

func TestMismatchIsUnsupported(t *testing.T) {
	base := consumable(t, chromium())
	for name, spoil := range map[string]func(*RtpCapabilities){
		"no codecs":      func(c *RtpCapabilities) { c.Codecs = nil },
		"other codec":    func(c *RtpCapabilities) { c.Codecs[0].MimeType = "audio/PCMU" },
		"other rate":     func(c *RtpCapabilities) { c.Codecs[0].ClockRate = 8000 },
		"other channels": func(c *RtpCapabilities) { c.Codecs[0].Channels = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			caps := browser()
			spoil(&caps)
			if CanConsume(base, caps) {
				t.Fatal("can consume")
			}
			if _, err := ConsumerRtpParameters(base, caps, 1, "0"); !errors.Is(err, errs.ErrUnsupported) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestProducerRefusals(t *testing.T) {
	long := strings.Repeat("x", 300)
	for name, row := range map[string]struct {
		spoil func(*RtpParameters)
		want  error
	}{
		"no codec":           {func(p *RtpParameters) { p.Codecs = nil }, errs.ErrInvalid},
		"unknown codec":      {func(p *RtpParameters) { p.Codecs[0].MimeType = "audio/PCMA" }, errs.ErrUnsupported},
		"video":              {func(p *RtpParameters) { p.Codecs[0].MimeType = "video/VP8" }, errs.ErrUnsupported},
		"malformed type":     {func(p *RtpParameters) { p.Codecs[0].MimeType = "opus" }, errs.ErrInvalid},
		"payload type":       {func(p *RtpParameters) { p.Codecs[0].PayloadType = 200 }, errs.ErrInvalid},
		"same payload type":  {func(p *RtpParameters) { p.Codecs = append(p.Codecs, p.Codecs[0]) }, errs.ErrInvalid},
		"no clock rate":      {func(p *RtpParameters) { p.Codecs[0].ClockRate = 0 }, errs.ErrInvalid},
		"long parameter":     {func(p *RtpParameters) { p.Codecs[0].Parameters["a"] = long }, errs.ErrInvalid},
		"odd parameter":      {func(p *RtpParameters) { p.Codecs[0].Parameters["a"] = 1.5 }, errs.ErrInvalid},
		"long mid":           {func(p *RtpParameters) { p.Mid = long }, errs.ErrInvalid},
		"long cname":         {func(p *RtpParameters) { p.Rtcp.CNAME = long }, errs.ErrInvalid},
		"no encoding":        {func(p *RtpParameters) { p.Encodings = nil }, errs.ErrInvalid},
		"two encodings":      {func(p *RtpParameters) { p.Encodings = append(p.Encodings, p.Encodings[0]) }, errs.ErrInvalid},
		"no way to tell":     {func(p *RtpParameters) { p.Encodings[0].SSRC, p.Mid = 0, "" }, errs.ErrInvalid},
		"extension id 0":     {func(p *RtpParameters) { p.HeaderExtensions[0].ID = 0 }, errs.ErrInvalid},
		"extension id 15":    {func(p *RtpParameters) { p.HeaderExtensions[0].ID = 15 }, errs.ErrInvalid},
		"extension id twice": {func(p *RtpParameters) { p.HeaderExtensions[0].ID = p.HeaderExtensions[1].ID }, errs.ErrInvalid},
		"extension twice":    {func(p *RtpParameters) { p.HeaderExtensions[0].URI = p.HeaderExtensions[1].URI }, errs.ErrInvalid},
		"encrypted":          {func(p *RtpParameters) { p.HeaderExtensions[0].Encrypt = true }, errs.ErrInvalid},
		"feedback":           {func(p *RtpParameters) { p.Codecs[0].RtcpFeedback = make([]RtcpFeedback, 17) }, errs.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			p := chromium()
			row.spoil(&p)
			if _, err := ProducerRtpMapping(p, RouterRtpCapabilities()); !errors.Is(err, row.want) {
				t.Fatalf("got %v, want %v", err, row.want)
			}
		})
	}
}

func TestOnlyAudioIsConsumable(t *testing.T) {
	p := chromium()
	if _, err := ConsumableRtpParameters("video", p, RouterRtpCapabilities(), nil); !errors.Is(err, errs.ErrUnsupported) {
		t.Fatalf("got %v", err)
	}
	if _, err := ConsumableRtpParameters("audio", p, RouterRtpCapabilities(), nil); !errors.Is(err, errs.ErrInvalid) {
		t.Fatalf("unmapped payload type: got %v", err)
	}
}

func TestHostileCapabilities(t *testing.T) {
	for name, spoil := range map[string]func(*RtpCapabilities){
		"too many codecs":     func(c *RtpCapabilities) { c.Codecs = make([]RtpCodecCapability, 65) },
		"too many extensions": func(c *RtpCapabilities) { c.HeaderExtensions = make([]RtpHeaderExtension, 65) },
		"kind":                func(c *RtpCapabilities) { c.HeaderExtensions[0].Kind = "smell" },
		"uri":                 func(c *RtpCapabilities) { c.HeaderExtensions[0].URI = "" },
		"parameters":          func(c *RtpCapabilities) { c.Codecs[0].Parameters["x"] = []any{} },
	} {
		t.Run(name, func(t *testing.T) {
			caps := browser()
			spoil(&caps)
			if err := ValidateRtpCapabilities(caps); !errors.Is(err, errs.ErrInvalid) {
				t.Fatalf("got %v", err)
			}
			if CanConsume(RtpParameters{}, caps) {
				t.Fatal("can consume")
			}
		})
	}
}
