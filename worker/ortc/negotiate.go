package ortc

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dspeak/sfu/internal/errs"
)

// RouterRtpCapabilities is what every router offers: Opus (RFC 7587), NACK and
// transport-wide feedback, and the header extensions that mediasoup knows for
// audio, under its ids. Transport-wide sequence numbers are taken from producers
// and not sent to consumers, whose bitrate nobody estimates.
//
// The Opus parameters become those of the answer that a client gives itself for
// its own offer: in-band FEC is wanted from everyone, while stereo and DTX are
// left to what the client asks for when it produces.
func RouterRtpCapabilities() RtpCapabilities {
	extension := func(uri string, id uint8, direction string) RtpHeaderExtension {
		return RtpHeaderExtension{Kind: KindAudio, URI: uri, PreferredID: id, Direction: direction}
	}
	return RtpCapabilities{
		Codecs: []RtpCodecCapability{{
			Kind: KindAudio, MimeType: mimeOpus, PreferredPayloadType: 100, ClockRate: 48000, Channels: 2,
			Parameters:   Parameters{"useinbandfec": int64(1)},
			RtcpFeedback: []RtcpFeedback{{Type: "nack"}, {Type: "transport-cc"}},
		}},
		HeaderExtensions: []RtpHeaderExtension{
			extension(URIMid, RouterMidID, directionSendRecv),
			extension(URIAbsSendTime, 4, directionSendRecv),
			extension(URITransportWideCC, 5, directionRecvOnly),
			extension(URIAudioLevel, 10, directionSendRecv),
		},
	}
}

// SentRtpParameters returns what counts of a producer's parameters: the codec that is
// sent, which is the one that the encoding names or else the first, and the header
// extensions that routers know. Endpoints list more of both, under numbers and
// parameters of their own, and do not send it.
func SentRtpParameters(p RtpParameters) RtpParameters {
	if sent := sentCodec(p); sent >= 0 {
		p.Codecs = p.Codecs[sent : sent+1 : sent+1]
	}
	p.HeaderExtensions = slices.DeleteFunc(slices.Clone(p.HeaderExtensions), func(e RtpHeaderExtensionParameters) bool {
		return !IsKnownExtension(e.URI)
	})
	return p
}

// sentCodec returns the index of the codec that is sent, -1 when there is none.
func sentCodec(p RtpParameters) int {
	if len(p.Encodings) == 1 && p.Encodings[0].CodecPayloadType != 0 {
		return slices.IndexFunc(p.Codecs, func(c RtpCodecParameters) bool {
			return c.PayloadType == p.Encodings[0].CodecPayloadType
		})
	}
	main := slices.IndexFunc(p.Codecs, func(c RtpCodecParameters) bool { return !isAuxiliary(c.MimeType) })
	if main < 0 && len(p.Codecs) > 0 {
		return 0
	}
	return main
}

// isAuxiliary reports whether a codec carries no media by itself.
func isAuxiliary(mimeType string) bool {
	_, name, _ := strings.Cut(strings.ToLower(mimeType), "/")
	return slices.Contains([]string{"cn", "telephone-event", "rtx", "ulpfec", "flexfec", "flexfec-03"}, name)
}

// ProducerRtpMapping validates a producer's parameters and maps its payload types
// to the router's. Malformed parameters are an errs.ErrInvalid, a codec that the
// router lacks is an errs.ErrUnsupported.
func ProducerRtpMapping(p RtpParameters, caps RtpCapabilities) ([]Mapping, error) {
	if err := ValidateRtpParameters(p); err != nil {
		return nil, err
	}
	var mapping []Mapping
	for i := range p.Codecs {
		c := &p.Codecs[i]
		if isRTX(c.MimeType) {
			return nil, refuseRTX(p.Codecs, c)
		}
		matched := slices.IndexFunc(caps.Codecs, func(capability RtpCodecCapability) bool { return matches(&capability, c) })
		if matched < 0 {
			return nil, fmt.Errorf("codec %s, %d Hz, %d channels, payload type %d: %w",
				cut(c.MimeType), c.ClockRate, max(c.Channels, 1), c.PayloadType, errs.ErrUnsupported)
		}
		mapped := caps.Codecs[matched].PreferredPayloadType
		// Consumers would get one payload type with two meanings.
		if slices.ContainsFunc(mapping, func(m Mapping) bool { return m.MappedPayloadType == mapped }) {
			return nil, invalid("codec %s is there twice", cut(c.MimeType))
		}
		mapping = append(mapping, Mapping{PayloadType: c.PayloadType, MappedPayloadType: mapped})
	}
	return mapping, nil
}

// refuseRTX says what is wrong with a retransmission codec: routers offer none for
// audio, whose lost packets are sent again as they were.
func refuseRTX(codecs []RtpCodecParameters, rtx *RtpCodecParameters) error {
	apt, ok := rtx.Parameters[parameterApt].(int64)
	if !ok || !slices.ContainsFunc(codecs, func(c RtpCodecParameters) bool {
		return int64(c.PayloadType) == apt && !isRTX(c.MimeType)
	}) {
		return invalid("codec %s, payload type %d: apt names no media codec", cut(rtx.MimeType), rtx.PayloadType)
	}
	return fmt.Errorf("codec %s for payload type %d: %w", cut(rtx.MimeType), apt, errs.ErrUnsupported)
}

func isRTX(mimeType string) bool { return strings.HasSuffix(strings.ToLower(mimeType), "/rtx") }

// ConsumableRtpParameters are the producer's parameters in the router's numbers:
// what consumers' parameters are derived from. The producer's codec parameters
// (stereo, in-band FEC, DTX) are kept. A kind other than audio is an errs.ErrUnsupported.
func ConsumableRtpParameters(kind string, p RtpParameters, caps RtpCapabilities, mapping []Mapping) (RtpParameters, error) {
	if kind != KindAudio {
		return RtpParameters{}, fmt.Errorf("media kind %q: %w", cut(kind), errs.ErrUnsupported)
	}
	reduced := true
	out := RtpParameters{Rtcp: RtcpParameters{CNAME: p.Rtcp.CNAME, ReducedSize: &reduced, Mux: &reduced}}
	for i := range p.Codecs {
		c := &p.Codecs[i]
		m := slices.IndexFunc(mapping, func(m Mapping) bool { return m.PayloadType == c.PayloadType })
		if m < 0 {
			return RtpParameters{}, fmt.Errorf("payload type %d is not mapped: %w", c.PayloadType, errs.ErrInvalid)
		}
		capability := slices.IndexFunc(caps.Codecs, func(c RtpCodecCapability) bool {
			return c.PreferredPayloadType == mapping[m].MappedPayloadType
		})
		if capability < 0 {
			return RtpParameters{}, fmt.Errorf("payload type %d is mapped to nothing: %w", c.PayloadType, errs.ErrInvalid)
		}
		matched := &caps.Codecs[capability]
		out.Codecs = append(out.Codecs, RtpCodecParameters{
			MimeType: matched.MimeType, PayloadType: matched.PreferredPayloadType,
			ClockRate: matched.ClockRate, Channels: matched.Channels,
			Parameters: maps.Clone(c.Parameters), RtcpFeedback: slices.Clone(matched.RtcpFeedback),
		})
	}
	for _, e := range caps.HeaderExtensions {
		if e.Kind == kind && (e.Direction == directionSendRecv || e.Direction == directionSendOnly) {
			out.HeaderExtensions = append(out.HeaderExtensions, RtpHeaderExtensionParameters{URI: e.URI, ID: e.PreferredID})
		}
	}
	for _, e := range p.Encodings {
		out.Encodings = append(out.Encodings, RtpEncodingParameters{SSRC: e.SSRC, DTX: e.DTX, MaxBitrate: e.MaxBitrate})
	}
	return out, nil
}

// ConsumerRtpParameters are the parameters of one consumer: of the consumable
// ones, what the endpoint supports, under the given SSRC and mid. No common codec
// is an errs.ErrUnsupported. An endpoint may list whatever it can do and however it
// calls it: nothing counts but the codecs and header extensions in common.
// Codec parameters are shared with the consumable ones: nobody may change either.
func ConsumerRtpParameters(consumable RtpParameters, caps RtpCapabilities, ssrc uint32, mid string) (RtpParameters, error) {
	out := RtpParameters{Mid: mid, Rtcp: consumable.Rtcp}
	for i := range consumable.Codecs {
		c := consumable.Codecs[i]
		matched := matchingCapability(caps, &c)
		if matched == nil {
			continue
		}
		c.RtcpFeedback = slices.DeleteFunc(slices.Clone(matched.RtcpFeedback), func(fb RtcpFeedback) bool { return !validFeedback(fb) })
		c.RtcpFeedback = c.RtcpFeedback[:min(len(c.RtcpFeedback), maxFeedback)]
		out.Codecs = append(out.Codecs, c)
	}
	if len(out.Codecs) == 0 {
		return RtpParameters{}, fmt.Errorf("no common codec: %w", errs.ErrUnsupported)
	}
	for _, e := range consumable.HeaderExtensions {
		if slices.ContainsFunc(caps.HeaderExtensions, func(c RtpHeaderExtension) bool {
			return c.PreferredID == e.ID && c.URI == e.URI
		}) {
			out.HeaderExtensions = append(out.HeaderExtensions, e)
		}
	}
	reduceFeedback(&out)
	encoding := RtpEncodingParameters{SSRC: ssrc}
	for _, e := range consumable.Encodings {
		encoding.MaxBitrate = max(encoding.MaxBitrate, e.MaxBitrate)
	}
	out.Encodings = []RtpEncodingParameters{encoding}
	return out, nil
}

// reduceFeedback drops bandwidth feedback whose header extension the consumer
// does not have: transport-cc wants transport-wide sequence numbers, goog-remb
// wants abs-send-time and yields to transport-cc.
func reduceFeedback(p *RtpParameters) {
	has := func(uri string) bool { return hasExtension(p.HeaderExtensions, uri) }
	drop := func(types ...string) {
		for i := range p.Codecs {
			p.Codecs[i].RtcpFeedback = slices.DeleteFunc(p.Codecs[i].RtcpFeedback, func(fb RtcpFeedback) bool {
				return slices.Contains(types, fb.Type)
			})
		}
	}
	switch {
	case has(URITransportWideCC):
		drop("goog-remb")
	case has(URIAbsSendTime):
		drop("transport-cc")
	default:
		drop("transport-cc", "goog-remb")
	}
}

func hasExtension(extensions []RtpHeaderExtensionParameters, uri string) bool {
	return slices.ContainsFunc(extensions, func(e RtpHeaderExtensionParameters) bool { return e.URI == uri })
}

func matchingCapability(caps RtpCapabilities, c *RtpCodecParameters) *RtpCodecCapability {
	for i := range caps.Codecs {
		if matches(&caps.Codecs[i], c) {
			return &caps.Codecs[i]
		}
	}
	return nil
}

// matches compares what names a codec: mime type, clock rate and channels. The
// parameters of Opus are the receiver's wishes (RFC 7587 section 6.1) and never
// keep two sides apart.
func matches(capability *RtpCodecCapability, c *RtpCodecParameters) bool {
	return strings.EqualFold(capability.MimeType, c.MimeType) &&
		capability.ClockRate == c.ClockRate &&
		max(capability.Channels, 1) == max(c.Channels, 1)
}
