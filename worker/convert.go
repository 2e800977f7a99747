package worker

import (
	"fmt"
	"math"
	"net/netip"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/dspeak/sfu/internal/errs"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/worker/ortc"
	"github.com/dspeak/sfu/worker/rtc"
)

// maxListItems bounds every repeated field before it is converted; package ortc
// checks the rest.
const maxListItems = 256

// maxWhole is the largest number up to which JSON keeps every whole number apart.
const maxWhole = 1 << 53

// toParameters converts fmtp parameters: whole numbers, texts, and booleans as 1
// and 0, because clients refuse a boolean in a consumer's parameters. null means
// absent.
func toParameters(s *structpb.Struct) (ortc.Parameters, error) {
	if len(s.GetFields()) > maxListItems {
		return nil, fmt.Errorf("%d parameters: %w", len(s.GetFields()), errs.ErrInvalid)
	}
	out := make(ortc.Parameters, len(s.GetFields()))
	for key, value := range s.GetFields() {
		switch v := value.GetKind().(type) {
		case *structpb.Value_NumberValue:
			if v.NumberValue != math.Trunc(v.NumberValue) || math.Abs(v.NumberValue) > maxWhole {
				return nil, fmt.Errorf("parameter %.48q is no whole number: %w", key, errs.ErrInvalid)
			}
			out[key] = int64(v.NumberValue)
		case *structpb.Value_StringValue:
			out[key] = v.StringValue
		case *structpb.Value_BoolValue:
			out[key] = int64(0)
			if v.BoolValue {
				out[key] = int64(1)
			}
		case *structpb.Value_NullValue:
		default:
			return nil, fmt.Errorf("parameter %.48q is neither number nor text: %w", key, errs.ErrInvalid)
		}
	}
	return out, nil
}

func fromParameters(p ortc.Parameters) *structpb.Struct {
	out := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(p))}
	for key, value := range p {
		switch v := value.(type) {
		case int64:
			out.Fields[key] = structpb.NewNumberValue(float64(v))
		case string:
			out.Fields[key] = structpb.NewStringValue(v)
		}
	}
	return out
}

func toFeedback(in []*workerv1.RtcpFeedback) []ortc.RtcpFeedback {
	out := make([]ortc.RtcpFeedback, len(in))
	for i, fb := range in {
		out[i] = ortc.RtcpFeedback{Type: fb.GetType(), Parameter: fb.GetParameter()}
	}
	return out
}

func fromFeedback(in []ortc.RtcpFeedback) []*workerv1.RtcpFeedback {
	out := make([]*workerv1.RtcpFeedback, len(in))
	for i, fb := range in {
		out[i] = &workerv1.RtcpFeedback{Type: fb.Type, Parameter: optional(fb.Parameter)}
	}
	return out
}

// optional is nil for the zero value: an absent field.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// narrow converts a number to eight bits, refusing what does not fit.
func narrow(what string, v uint32) (uint8, error) {
	if v > math.MaxUint8 {
		return 0, fmt.Errorf("%s %d: %w", what, v, errs.ErrInvalid)
	}
	return uint8(v), nil
}

// bounded refuses lists that no client sends.
func bounded(lengths ...int) error {
	for _, n := range lengths {
		if n > maxListItems {
			return fmt.Errorf("list of %d items: %w", n, errs.ErrInvalid)
		}
	}
	return nil
}

// toRtpCapabilities leaves out what cannot be converted: an endpoint may list
// codecs and header extensions that nobody here knows, and none of them harms it.
func toRtpCapabilities(in *workerv1.RtpCapabilities) (ortc.RtpCapabilities, error) {
	var out ortc.RtpCapabilities
	if err := bounded(len(in.GetCodecs()), len(in.GetHeaderExtensions())); err != nil {
		return out, err
	}
	for _, c := range in.GetCodecs() {
		payloadType, err := narrow("payload type", c.GetPreferredPayloadType())
		if err != nil || bounded(len(c.GetRtcpFeedback())) != nil {
			continue
		}
		params, err := toParameters(c.GetParameters())
		if err != nil {
			params = nil // negotiation does not look at them
		}
		out.Codecs = append(out.Codecs, ortc.RtpCodecCapability{
			Kind: c.GetKind(), MimeType: c.GetMimeType(), PreferredPayloadType: payloadType,
			ClockRate: c.GetClockRate(), Channels: c.GetChannels(),
			Parameters: params, RtcpFeedback: toFeedback(c.GetRtcpFeedback()),
		})
	}
	for _, e := range in.GetHeaderExtensions() {
		id, err := narrow("header extension id", e.GetPreferredId())
		if err != nil {
			continue
		}
		out.HeaderExtensions = append(out.HeaderExtensions, ortc.RtpHeaderExtension{
			Kind: e.GetKind(), URI: e.GetUri(), PreferredID: id,
			PreferredEncrypt: e.GetPreferredEncrypt(), Direction: e.GetDirection(),
		})
	}
	return out, nil
}

func fromRtpCapabilities(in ortc.RtpCapabilities) *workerv1.RtpCapabilities {
	out := &workerv1.RtpCapabilities{}
	for _, c := range in.Codecs {
		out.Codecs = append(out.Codecs, &workerv1.RtpCodecCapability{
			Kind: c.Kind, MimeType: c.MimeType, PreferredPayloadType: optional(uint32(c.PreferredPayloadType)),
			ClockRate: c.ClockRate, Channels: optional(c.Channels),
			Parameters: fromParameters(c.Parameters), RtcpFeedback: fromFeedback(c.RtcpFeedback),
		})
	}
	for _, e := range in.HeaderExtensions {
		out.HeaderExtensions = append(out.HeaderExtensions, &workerv1.RtpHeaderExtension{
			Kind: e.Kind, Uri: e.URI, PreferredId: uint32(e.PreferredID),
			PreferredEncrypt: e.PreferredEncrypt, Direction: optional(e.Direction),
		})
	}
	return out
}

// toRtpParameters leaves out header extensions and codecs beside Opus that cannot be
// converted: endpoints list more than they send.
func toRtpParameters(in *workerv1.RtpParameters) (ortc.RtpParameters, error) {
	out := ortc.RtpParameters{Mid: in.GetMid()}
	if rtcp := in.GetRtcp(); rtcp != nil { // mediasoup's clients may leave it out
		out.Rtcp = ortc.RtcpParameters{CNAME: rtcp.GetCname(), ReducedSize: rtcp.ReducedSize, Mux: rtcp.Mux}
	}
	if err := bounded(len(in.GetCodecs()), len(in.GetHeaderExtensions()), len(in.GetEncodings())); err != nil {
		return out, err
	}
	for _, c := range in.GetCodecs() {
		codec, err := toCodecParameters(c)
		if err != nil && ortc.IsOpus(c.GetMimeType()) {
			return out, err
		}
		if err == nil {
			out.Codecs = append(out.Codecs, codec)
		}
	}
	for _, e := range in.GetHeaderExtensions() {
		extension, err := toExtensionParameters(e)
		if err != nil && ortc.IsKnownExtension(e.GetUri()) {
			return out, err
		}
		if err == nil {
			out.HeaderExtensions = append(out.HeaderExtensions, extension)
		}
	}
	for _, e := range in.GetEncodings() {
		payloadType, err := narrow("codec payload type", e.GetCodecPayloadType())
		if err != nil {
			return out, err
		}
		if e.Ssrc != nil && e.GetSsrc() == 0 { // 0 stands for an absent one from here on
			return out, fmt.Errorf("ssrc 0: %w", errs.ErrInvalid)
		}
		out.Encodings = append(out.Encodings, ortc.RtpEncodingParameters{
			SSRC: e.GetSsrc(), RID: e.GetRid(), CodecPayloadType: payloadType, DTX: e.GetDtx(), MaxBitrate: e.GetMaxBitrate(),
		})
	}
	return out, nil
}

func toCodecParameters(c *workerv1.RtpCodecParameters) (ortc.RtpCodecParameters, error) {
	if err := bounded(len(c.GetRtcpFeedback())); err != nil {
		return ortc.RtpCodecParameters{}, err
	}
	payloadType, err := narrow("payload type", c.GetPayloadType())
	if err != nil {
		return ortc.RtpCodecParameters{}, err
	}
	params, err := toParameters(c.GetParameters())
	return ortc.RtpCodecParameters{
		MimeType: c.GetMimeType(), PayloadType: payloadType, ClockRate: c.GetClockRate(),
		Channels: c.GetChannels(), Parameters: params, RtcpFeedback: toFeedback(c.GetRtcpFeedback()),
	}, err
}

func toExtensionParameters(e *workerv1.RtpHeaderExtensionParameters) (ortc.RtpHeaderExtensionParameters, error) {
	id, err := narrow("header extension id", e.GetId())
	if err != nil {
		return ortc.RtpHeaderExtensionParameters{}, err
	}
	params, err := toParameters(e.GetParameters())
	return ortc.RtpHeaderExtensionParameters{URI: e.GetUri(), ID: id, Encrypt: e.GetEncrypt(), Parameters: params}, err
}

func fromRtpParameters(in ortc.RtpParameters) *workerv1.RtpParameters {
	out := &workerv1.RtpParameters{
		Mid: optional(in.Mid),
		Rtcp: &workerv1.RtcpParameters{
			Cname: optional(in.Rtcp.CNAME), ReducedSize: in.Rtcp.ReducedSize, Mux: in.Rtcp.Mux,
		},
	}
	for _, c := range in.Codecs {
		out.Codecs = append(out.Codecs, &workerv1.RtpCodecParameters{
			MimeType: c.MimeType, PayloadType: uint32(c.PayloadType), ClockRate: c.ClockRate, Channels: optional(c.Channels),
			Parameters: fromParameters(c.Parameters), RtcpFeedback: fromFeedback(c.RtcpFeedback),
		})
	}
	for _, e := range in.HeaderExtensions {
		out.HeaderExtensions = append(out.HeaderExtensions, &workerv1.RtpHeaderExtensionParameters{
			Uri: e.URI, Id: uint32(e.ID), Encrypt: e.Encrypt, Parameters: fromParameters(e.Parameters),
		})
	}
	for _, e := range in.Encodings {
		encoding := &workerv1.RtpEncodingParameters{
			Ssrc: optional(e.SSRC), Rid: optional(e.RID), CodecPayloadType: optional(uint32(e.CodecPayloadType)),
			MaxBitrate: optional(e.MaxBitrate),
		}
		if e.DTX {
			encoding.Dtx = &e.DTX
		}
		out.Encodings = append(out.Encodings, encoding)
	}
	return out
}

func toDtlsParameters(in *workerv1.DtlsParameters) (rtc.DtlsParameters, error) {
	out := rtc.DtlsParameters{Role: in.GetRole()}
	if err := bounded(len(in.GetFingerprints())); err != nil {
		return out, err
	}
	for _, f := range in.GetFingerprints() {
		out.Fingerprints = append(out.Fingerprints, rtc.DtlsFingerprint{Algorithm: f.GetAlgorithm(), Value: f.GetValue()})
	}
	return out, nil
}

func fromTransportInfo(in rtc.TransportInfo) *workerv1.CreateTransportResponse {
	out := &workerv1.CreateTransportResponse{
		IceParameters: &workerv1.IceParameters{
			UsernameFragment: in.IceParameters.UsernameFragment, Password: in.IceParameters.Password, IceLite: in.IceParameters.IceLite,
		},
		DtlsParameters: &workerv1.DtlsParameters{Role: &in.DtlsParameters.Role},
	}
	for _, c := range in.IceCandidates {
		out.IceCandidates = append(out.IceCandidates, &workerv1.IceCandidate{
			Foundation: c.Foundation, Priority: c.Priority, Ip: c.IP, Address: c.Address, Protocol: c.Protocol,
			Port: uint32(c.Port), Type: c.Type, TcpType: optional(c.TCPType),
		})
	}
	for _, f := range in.DtlsParameters.Fingerprints {
		out.DtlsParameters.Fingerprints = append(out.DtlsParameters.Fingerprints,
			&workerv1.DtlsFingerprint{Algorithm: f.Algorithm, Value: f.Value})
	}
	return out
}

func toAnnounced(in []*workerv1.AnnouncedAddress) ([]netip.AddrPort, error) {
	if err := bounded(len(in)); err != nil {
		return nil, err
	}
	out := make([]netip.AddrPort, len(in))
	for i, a := range in {
		addr, err := netip.ParseAddr(a.GetAddress())
		if err != nil || a.GetPort() == 0 || a.GetPort() > math.MaxUint16 {
			return nil, fmt.Errorf("announced address %.64q, port %d: %w", a.GetAddress(), a.GetPort(), errs.ErrInvalid)
		}
		out[i] = netip.AddrPortFrom(addr.Unmap().WithZone(""), uint16(a.GetPort())) //nolint:gosec // checked above
	}
	return out, nil
}

func toFamily(in workerv1.AddressFamily) (rtc.Family, error) {
	switch in {
	case workerv1.AddressFamily_ADDRESS_FAMILY_UNSPECIFIED:
		return rtc.FamilyAny, nil
	case workerv1.AddressFamily_ADDRESS_FAMILY_IPV4:
		return rtc.FamilyIPv4, nil
	case workerv1.AddressFamily_ADDRESS_FAMILY_IPV6:
		return rtc.FamilyIPv6, nil
	default:
		return 0, fmt.Errorf("address family %d: %w", in, errs.ErrInvalid)
	}
}
