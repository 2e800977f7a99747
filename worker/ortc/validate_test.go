package ortc

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dspeak/sfu/internal/errs"
)

func TestValidateRtpParameters(t *testing.T) {
	opus := func(p *RtpParameters) Parameters { return p.Codecs[0].Parameters }
	for name, spoil := range map[string]func(*RtpParameters){
		"as it is":            func(*RtpParameters) {},
		"no mid":              func(p *RtpParameters) { p.Mid = "" },
		"longest mid":         func(p *RtpParameters) { p.Mid = strings.Repeat("m", 16) },
		"no ssrc":             func(p *RtpParameters) { p.Encodings[0].SSRC = 0 },
		"no cname":            func(p *RtpParameters) { p.Rtcp.CNAME = "" },
		"longest cname":       func(p *RtpParameters) { p.Rtcp.CNAME = strings.Repeat("c", 255) },
		"no extensions":       func(p *RtpParameters) { p.HeaderExtensions = nil },
		"largest id":          func(p *RtpParameters) { p.HeaderExtensions[1].ID = 255 },
		"two-byte id":         func(p *RtpParameters) { p.HeaderExtensions[1].ID = 16 },
		"no codec parameters": func(p *RtpParameters) { p.Codecs[0].Parameters = nil },
		"number as text":      func(p *RtpParameters) { opus(p)["stereo"] = "1" },
		"unknown parameter":   func(p *RtpParameters) { opus(p)["x-test"] = "a, b=c" },
		"empty value":         func(p *RtpParameters) { opus(p)["x-test"] = "" },
		"payload type 35":     func(p *RtpParameters) { p.Codecs[0].PayloadType = 35 },
		"encoding's codec":    func(p *RtpParameters) { p.Encodings[0].CodecPayloadType = 111 },
		"rid":                 func(p *RtpParameters) { p.Encodings[0].RID = "r0" },
	} {
		t.Run(name, func(t *testing.T) {
			p := chromiumParameters()
			spoil(&p)
			if err := ValidateRtpParameters(p); err != nil {
				t.Fatal(err)
			}
		})
	}
	if err := ValidateRtpParameters(firefoxParameters()); err != nil {
		t.Fatal(err)
	}
}

func TestValidateRtpParametersRefusals(t *testing.T) {
	long := strings.Repeat("x", 257)
	opus := func(p *RtpParameters) Parameters { return p.Codecs[0].Parameters }
	for name, row := range map[string]struct {
		spoil func(*RtpParameters)
		text  string
	}{
		"no codec":        {func(p *RtpParameters) { p.Codecs = nil }, "0 codecs"},
		"too many codecs": {func(p *RtpParameters) { p.Codecs = make([]RtpCodecParameters, 129) }, "129 codecs"},
		"no type":         {func(p *RtpParameters) { p.Codecs[0].MimeType = "" }, `mime type ""`},
		"no kind":         {func(p *RtpParameters) { p.Codecs[0].MimeType = "opus" }, `mime type "opus"`},
		"other kind":      {func(p *RtpParameters) { p.Codecs[0].MimeType = "text/opus" }, `mime type "text/opus"`},
		"no name":         {func(p *RtpParameters) { p.Codecs[0].MimeType = "audio/" }, `mime type "audio/"`},
		"long type":       {func(p *RtpParameters) { p.Codecs[0].MimeType = "audio/" + long }, `mime type "audio/xx`},
		"line in type":    {func(p *RtpParameters) { p.Codecs[0].MimeType = "audio/opus\r\n" }, `mime type "audio/opus\r\n"`},
		"no clock rate":   {func(p *RtpParameters) { p.Codecs[0].ClockRate = 0 }, "clock rate missing"},
		"payload type":    {func(p *RtpParameters) { p.Codecs[0].PayloadType = 128 }, "payload type 128"},
		"payload type of RTCP": {
			func(p *RtpParameters) { p.Codecs[0].PayloadType = 72 }, "payload type 72 cannot be told from RTCP",
		},
		"payload type twice": {
			func(p *RtpParameters) { p.Codecs = append(p.Codecs, p.Codecs[0]) }, "payload type 111 is used twice",
		},
		"too much feedback": {
			func(p *RtpParameters) { p.Codecs[0].RtcpFeedback = make([]RtcpFeedback, 17) }, "17 rtcp feedback kinds",
		},
		"feedback without type": {
			func(p *RtpParameters) { p.Codecs[0].RtcpFeedback[0].Type = "" }, "rtcp feedback",
		},
		"line in feedback": {
			func(p *RtpParameters) { p.Codecs[0].RtcpFeedback[0].Parameter = "pli\r\n" }, "rtcp feedback",
		},
		"long feedback": {func(p *RtpParameters) { p.Codecs[0].RtcpFeedback[0].Parameter = long }, "rtcp feedback"},

		"too many parameters": {
			func(p *RtpParameters) {
				for i := range 33 {
					opus(p)[fmt.Sprint("p", i)] = int64(i)
				}
			},
			"parameters, want at most 32",
		},
		"parameter without name":  {func(p *RtpParameters) { opus(p)[""] = int64(1) }, `parameter name ""`},
		"long parameter name":     {func(p *RtpParameters) { opus(p)[long] = int64(1) }, "parameter name"},
		"equals in name":          {func(p *RtpParameters) { opus(p)["a=b"] = int64(1) }, `parameter name "a=b"`},
		"semicolon in name":       {func(p *RtpParameters) { opus(p)["a;b"] = int64(1) }, `parameter name "a;b"`},
		"line in name":            {func(p *RtpParameters) { opus(p)["a\nb"] = int64(1) }, `parameter name "a\nb"`},
		"long value":              {func(p *RtpParameters) { opus(p)["a"] = long }, `parameter "a" of 257 bytes`},
		"line in value":           {func(p *RtpParameters) { opus(p)["a"] = "1\r\na=inactive" }, `parameter "a" holds`},
		"semicolon in value":      {func(p *RtpParameters) { opus(p)["a"] = "1;stereo=1" }, `parameter "a" holds`},
		"foreign letter in value": {func(p *RtpParameters) { opus(p)["a"] = "ü" }, `parameter "a" holds`},
		"fraction":                {func(p *RtpParameters) { opus(p)["a"] = 1.5 }, `parameter "a" is neither`},
		"boolean":                 {func(p *RtpParameters) { opus(p)["a"] = true }, `parameter "a" is neither`},
		"nothing":                 {func(p *RtpParameters) { opus(p)["a"] = nil }, `parameter "a" is neither`},
		"apt as text":             {func(p *RtpParameters) { opus(p)["apt"] = "111" }, "apt is not a number"},
		"stereo as text":          {func(p *RtpParameters) { opus(p)["stereo"] = "yes" }, `opus parameter stereo is "yes"`},
		"negative bitrate":        {func(p *RtpParameters) { opus(p)["maxaveragebitrate"] = int64(-1) }, "maxaveragebitrate is -1"},
		"vast playback rate":      {func(p *RtpParameters) { opus(p)["maxplaybackrate"] = int64(1 << 31) }, "maxplaybackrate is"},

		"too many extensions": {
			func(p *RtpParameters) { p.HeaderExtensions = make([]RtpHeaderExtensionParameters, 65) }, "65 header extensions",
		},
		"extension without uri": {func(p *RtpParameters) { p.HeaderExtensions[0].URI = "" }, `header extension uri ""`},
		"long uri":              {func(p *RtpParameters) { p.HeaderExtensions[0].URI = long }, "header extension uri"},
		"blank in uri":          {func(p *RtpParameters) { p.HeaderExtensions[0].URI = "urn: x" }, `uri "urn: x"`},
		"extension id 0":        {func(p *RtpParameters) { p.HeaderExtensions[0].ID = 0 }, "id missing"},
		"extension id twice":    {func(p *RtpParameters) { p.HeaderExtensions[0].ID = 2 }, "header extension id 2 is used twice"},
		"extension twice":       {func(p *RtpParameters) { p.HeaderExtensions[0].URI = URIAudioLevel }, "is there twice"},
		"encrypted extension":   {func(p *RtpParameters) { p.HeaderExtensions[0].Encrypt = true }, "is encrypted"},
		"extension parameter": {
			func(p *RtpParameters) { p.HeaderExtensions[0].Parameters = Parameters{"a": []any{}} }, `parameter "a" is neither`,
		},

		"long mid":           {func(p *RtpParameters) { p.Mid = strings.Repeat("m", 17) }, "mid of 17 bytes"},
		"line in mid":        {func(p *RtpParameters) { p.Mid = "0\n" }, `mid "0\n"`},
		"long cname":         {func(p *RtpParameters) { p.Rtcp.CNAME = strings.Repeat("c", 256) }, "cname of 256 bytes"},
		"separator in cname": {func(p *RtpParameters) { p.Rtcp.CNAME = "a;b" }, "cname"},
		"line in cname":      {func(p *RtpParameters) { p.Rtcp.CNAME = "a\r\na=sendonly" }, "cname"},
		"no encoding":        {func(p *RtpParameters) { p.Encodings = nil }, "0 encodings"},
		"two encodings":      {func(p *RtpParameters) { p.Encodings = append(p.Encodings, p.Encodings[0]) }, "2 encodings"},
		"long rid":           {func(p *RtpParameters) { p.Encodings[0].RID = strings.Repeat("r", 17) }, "rid"},
		"no way to tell packets": {
			func(p *RtpParameters) { p.Encodings[0].SSRC, p.Mid = 0, "" }, "neither ssrc nor mid",
		},
		"mid that packets do not carry": {
			func(p *RtpParameters) { p.Encodings[0].SSRC, p.HeaderExtensions = 0, p.HeaderExtensions[1:] }, "mid header extension",
		},
		"encoding's codec missing": {
			func(p *RtpParameters) { p.Encodings[0].CodecPayloadType = 100 }, "payload type 100",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := chromiumParameters()
			row.spoil(&p)
			err := ValidateRtpParameters(p)
			if !errors.Is(err, errs.ErrInvalid) || !strings.Contains(err.Error(), row.text) {
				t.Fatalf("got %v, want one with %q", err, row.text)
			}
			if len(err.Error()) > 400 {
				t.Fatalf("text of %d bytes", len(err.Error()))
			}
		})
	}
}
