package worker

import (
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/worker/ortc"
)

// FuzzNegotiate takes a hostile producer's parameters to those of a listener. They
// go into the listener's SDP, so they must be well formed and stay on their lines.
func FuzzNegotiate(f *testing.F) {
	f.Add("audio/opus", uint32(111), "usedtx", "", 1.0, "8nPq/YcL0vJ+u2Dh", "0", ortc.URIMid, uint32(4), uint32(2874160933))
	f.Add("audio/OPUS", uint32(109), "stereo", "1", 0.0, "{0e5bd04a-5c30}", "", ortc.URIAudioLevel, uint32(16), uint32(1))
	f.Add("audio/opus", uint32(72), "a", "1\r\na=inactive", 0.5, "c\r\na=x", "0\n", "urn: x", uint32(256), uint32(0))
	f.Add("audio/rtx", uint32(97), "apt", "", 97.0, "c", "1", ortc.URIMid, uint32(15), uint32(7))
	f.Add("audio/opus", uint32(96), "x-y", "", math.Inf(1), "", "m", ortc.URIMid, uint32(0), uint32(0))
	f.Fuzz(func(t *testing.T, mimeType string, payloadType uint32, name, text string, number float64,
		cname, mid, uri string, id, ssrc uint32,
	) {
		value := structpb.NewNumberValue(number)
		if text != "" {
			value = structpb.NewStringValue(text)
		}
		got, err := negotiate(&workerv1.RtpParameters{
			Mid: &mid,
			Codecs: []*workerv1.RtpCodecParameters{{
				MimeType: mimeType, PayloadType: payloadType, ClockRate: 48000, Channels: new(uint32(2)),
				Parameters: &structpb.Struct{Fields: map[string]*structpb.Value{name: value}},
			}},
			HeaderExtensions: []*workerv1.RtpHeaderExtensionParameters{{Uri: uri, Id: id}},
			Encodings:        []*workerv1.RtpEncodingParameters{{Ssrc: optional(ssrc)}},
			Rtcp:             &workerv1.RtcpParameters{Cname: &cname},
		}, fromRtpCapabilities(ortc.RouterRtpCapabilities()))
		if err != nil {
			return
		}
		back, err := toRtpParameters(got)
		if err != nil {
			t.Fatalf("the listener's parameters do not convert back: %v", err)
		}
		if err := ortc.ValidateRtpParameters(back); err != nil {
			t.Fatalf("the listener's parameters are malformed: %v", err)
		}
		for _, s := range []string{name, text, cname} {
			if strings.ContainsAny(s, "\r\n;\x00") {
				t.Fatalf("%q breaks a line of SDP", s)
			}
		}
	})
}
