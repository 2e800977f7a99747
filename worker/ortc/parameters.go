package ortc

import "strings"

// Header extension URIs that the router knows.
const (
	URIMid             = "urn:ietf:params:rtp-hdrext:sdes:mid"
	URIAbsSendTime     = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
	URITransportWideCC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
	URIAudioLevel      = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
)

// RouterMidID is the id of the mid extension in all routers' capabilities, and so in the
// packets of all consumers that have it.
const RouterMidID = 1

// KindAudio is the only media kind that is carried.
const KindAudio = "audio"

const (
	kindVideo    = "video"
	mimeOpus     = "audio/opus"
	parameterApt = "apt" // of RTX: the payload type that is sent again (RFC 4588 section 8)
)

// IsOpus reports whether a mime type is that of the only codec that routers offer.
func IsOpus(mimeType string) bool { return strings.EqualFold(mimeType, mimeOpus) }

// IsKnownExtension reports whether routers know a header extension.
func IsKnownExtension(uri string) bool {
	switch uri {
	case URIMid, URIAbsSendTime, URITransportWideCC, URIAudioLevel:
		return true
	}
	return false
}

// Directions of a header extension, seen from the side that states them.
const (
	directionSendRecv = "sendrecv"
	directionSendOnly = "sendonly"
	directionRecvOnly = "recvonly"
)

// Parameters are codec-specific (fmtp) parameters. A value is a string or an
// int64; validation refuses everything else.
type Parameters map[string]any

// RtcpFeedback is one kind of RTCP feedback (RFC 4585 section 4.2).
type RtcpFeedback struct {
	Type      string
	Parameter string `json:",omitempty"`
}

// RtpCodecCapability is a codec that an endpoint supports.
type RtpCodecCapability struct {
	Kind     string
	MimeType string
	// PreferredPayloadType is 0 when absent.
	PreferredPayloadType uint8
	ClockRate            uint32
	// Channels is 0 when absent, which means 1.
	Channels     uint32
	Parameters   Parameters
	RtcpFeedback []RtcpFeedback
}

// RtpHeaderExtension is a header extension that an endpoint supports.
type RtpHeaderExtension struct {
	Kind             string
	URI              string
	PreferredID      uint8
	PreferredEncrypt bool
	// Direction is empty when absent, which means sendrecv.
	Direction string
}

// RtpCapabilities is what an endpoint can receive, or what a router offers.
type RtpCapabilities struct {
	Codecs           []RtpCodecCapability
	HeaderExtensions []RtpHeaderExtension
}

// RtpCodecParameters is a codec as it is sent.
type RtpCodecParameters struct {
	MimeType     string
	PayloadType  uint8
	ClockRate    uint32
	Channels     uint32         `json:",omitempty"`
	Parameters   Parameters     `json:",omitempty"`
	RtcpFeedback []RtcpFeedback `json:",omitempty"`
}

// RtpHeaderExtensionParameters is a header extension as it is sent.
type RtpHeaderExtensionParameters struct {
	URI        string
	ID         uint8
	Encrypt    bool       `json:",omitempty"`
	Parameters Parameters `json:",omitempty"`
}

// RtpEncodingParameters is one encoding. SSRC is 0 when absent.
type RtpEncodingParameters struct {
	SSRC             uint32 `json:",omitempty"`
	RID              string `json:",omitempty"`
	CodecPayloadType uint8  `json:",omitempty"`
	DTX              bool   `json:",omitempty"`
	MaxBitrate       uint32 `json:",omitempty"`
}

// RtcpParameters says how RTCP is sent. A nil ReducedSize or Mux means true.
type RtcpParameters struct {
	CNAME       string `json:",omitempty"`
	ReducedSize *bool  `json:",omitempty"`
	Mux         *bool  `json:",omitempty"`
}

// RtpParameters is what a producer sends or a consumer receives.
type RtpParameters struct {
	Mid              string                         `json:",omitempty"`
	Codecs           []RtpCodecParameters           `json:",omitempty"`
	HeaderExtensions []RtpHeaderExtensionParameters `json:",omitempty"`
	Encodings        []RtpEncodingParameters        `json:",omitempty"`
	Rtcp             RtcpParameters
}

// Mapping is how a producer's payload type maps to the router's.
type Mapping struct {
	PayloadType       uint8
	MappedPayloadType uint8
}
