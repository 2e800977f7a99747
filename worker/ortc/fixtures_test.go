package ortc

import "testing"

const (
	uriCsrcLevel = "urn:ietf:params:rtp-hdrext:csrc-audio-level"
	uriStreamID  = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
)

// chromiumParameters is what a producer of the shipped client in Chromium sends:
// DTX and stereo asked for, no NACK because mediasoup-client drops it unasked.
func chromiumParameters() RtpParameters {
	return RtpParameters{
		Mid: "0",
		Codecs: []RtpCodecParameters{{
			MimeType: "audio/opus", PayloadType: 111, ClockRate: 48000, Channels: 2,
			Parameters:   Parameters{"minptime": int64(10), "useinbandfec": int64(1), "sprop-stereo": int64(1), "usedtx": int64(1)},
			RtcpFeedback: []RtcpFeedback{{Type: "transport-cc"}},
		}},
		HeaderExtensions: []RtpHeaderExtensionParameters{
			{URI: URIMid, ID: 4}, {URI: URIAbsSendTime, ID: 2}, {URI: URITransportWideCC, ID: 3}, {URI: URIAudioLevel, ID: 1},
		},
		Encodings: []RtpEncodingParameters{{SSRC: 2874160933, MaxBitrate: 64000}},
		Rtcp:      RtcpParameters{CNAME: "8nPq/YcL0vJ+u2Dh", ReducedSize: new(true)},
	}
}

// firefoxParameters is what a producer in Firefox sends, with NACK asked for.
func firefoxParameters() RtpParameters {
	return RtpParameters{
		Mid: "2",
		Codecs: []RtpCodecParameters{{
			MimeType: "audio/opus", PayloadType: 109, ClockRate: 48000, Channels: 2,
			Parameters:   Parameters{"maxplaybackrate": int64(48000), "stereo": int64(1), "useinbandfec": int64(1)},
			RtcpFeedback: []RtcpFeedback{{Type: "nack"}},
		}},
		HeaderExtensions: []RtpHeaderExtensionParameters{{URI: URIMid, ID: 3}, {URI: URIAudioLevel, ID: 1}},
		Encodings:        []RtpEncodingParameters{{SSRC: 1187235}},
		Rtcp:             RtcpParameters{CNAME: "{0e5bd04a-5c30-4a4e-a8fd-9c2a40d1b6a3}", ReducedSize: new(true)},
	}
}

// chromiumDevice is what mediasoup-client announces in Chromium once it loaded
// the router's capabilities.
func chromiumDevice() RtpCapabilities {
	return RtpCapabilities{
		Codecs: []RtpCodecCapability{{
			Kind: "audio", MimeType: "audio/opus", PreferredPayloadType: 100, ClockRate: 48000, Channels: 2,
			Parameters:   Parameters{"minptime": int64(10), "useinbandfec": int64(1)},
			RtcpFeedback: []RtcpFeedback{{Type: "transport-cc"}, {Type: "nack"}},
		}},
		HeaderExtensions: []RtpHeaderExtension{
			{Kind: "audio", URI: URIMid, PreferredID: 1, Direction: "sendrecv"},
			{Kind: "audio", URI: URIAbsSendTime, PreferredID: 4, Direction: "sendrecv"},
			{Kind: "audio", URI: URIAudioLevel, PreferredID: 10, Direction: "sendrecv"},
		},
	}
}

// shippedDevice is chromiumDevice after the shipped client's own additions.
func shippedDevice() RtpCapabilities {
	caps := chromiumDevice()
	caps.Codecs[0].Parameters["sprop-stereo"] = int64(1)
	caps.Codecs[0].Parameters["usedtx"] = int64(1)
	return caps
}

func firefoxDevice() RtpCapabilities {
	return RtpCapabilities{
		Codecs: []RtpCodecCapability{{
			Kind: "audio", MimeType: "audio/opus", PreferredPayloadType: 100, ClockRate: 48000, Channels: 2,
			Parameters:   Parameters{"maxplaybackrate": int64(48000), "stereo": int64(1), "useinbandfec": int64(1)},
			RtcpFeedback: []RtcpFeedback{{Type: "nack"}},
		}},
		HeaderExtensions: []RtpHeaderExtension{
			{Kind: "audio", URI: URIMid, PreferredID: 1, Direction: "sendrecv"},
			{Kind: "audio", URI: URIAudioLevel, PreferredID: 10, Direction: "sendrecv"},
		},
	}
}

// nativeChromium is a part of all that Chromium can do, under its own numbers.
func nativeChromium() RtpCapabilities {
	audio := func(name string, pt uint8, rate, channels uint32, p Parameters) RtpCodecCapability {
		return RtpCodecCapability{
			Kind: "audio", MimeType: "audio/" + name, PreferredPayloadType: pt, ClockRate: rate, Channels: channels, Parameters: p,
		}
	}
	video := func(name string, pt uint8, p Parameters) RtpCodecCapability {
		return RtpCodecCapability{
			Kind: "video", MimeType: "video/" + name, PreferredPayloadType: pt, ClockRate: 90000, Parameters: p,
			RtcpFeedback: []RtcpFeedback{{Type: "goog-remb"}, {Type: "ccm", Parameter: "fir"}, {Type: "nack", Parameter: "pli"}},
		}
	}
	opus := audio("opus", 111, 48000, 2, Parameters{"minptime": int64(10), "useinbandfec": int64(1)})
	opus.RtcpFeedback = []RtcpFeedback{{Type: "transport-cc"}}
	return RtpCapabilities{
		Codecs: []RtpCodecCapability{
			opus,
			audio("red", 63, 48000, 2, Parameters{"111/111": ""}),
			audio("G722", 9, 8000, 0, nil),
			audio("PCMU", 0, 8000, 0, nil),
			audio("CN", 13, 8000, 0, nil),
			audio("telephone-event", 110, 48000, 0, Parameters{"0-15": ""}),
			video("VP8", 96, nil),
			video("rtx", 97, Parameters{"apt": int64(96)}),
			video("H264", 103, Parameters{
				"level-asymmetry-allowed": int64(1), "packetization-mode": int64(1), "profile-level-id": "42001f",
			}),
			video("ulpfec", 116, nil),
		},
		HeaderExtensions: []RtpHeaderExtension{
			{Kind: "audio", URI: URIAudioLevel, PreferredID: 1},
			{Kind: "audio", URI: URIAbsSendTime, PreferredID: 2},
			{Kind: "audio", URI: URIMid, PreferredID: 4},
			{Kind: "video", URI: URIMid, PreferredID: 4},
			{Kind: "video", URI: uriStreamID, PreferredID: 10},
			{Kind: "audio", URI: uriCsrcLevel, PreferredID: 16, Direction: "recvonly"},
		},
	}
}

// consumable is what the router makes of a producer's parameters.
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
