package supervisor

import (
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/dspeak/sfu/internal/errs"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
)

// maxEntries bounds each list that a client's parameters keep, as workers do.
const maxEntries = 256

// toJSON writes a parameter object as clients read it.
func toJSON(m proto.Message) ([]byte, error) {
	b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return b, nil
}

// fromJSON reads a parameter object of a client. Faults wrap errs.ErrInvalid.
func fromJSON(b []byte, m proto.Message) error {
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(b, m); err != nil {
		// The text of the library differs from build to build: it is not for clients.
		return fmt.Errorf("malformed %s: %w", m.ProtoReflect().Descriptor().Name(), errs.ErrInvalid)
	}
	return nil
}

// capabilitiesFrom reads what a client can receive. Browsers list whatever they can
// do, so that an entry which cannot be read is left out, as is all that is no audio.
// A list of codecs of which none can be read is an errs.ErrInvalid.
func capabilitiesFrom(b []byte) (*workerv1.RtpCapabilities, error) {
	var object map[string]json.RawMessage
	var codecs []json.RawMessage
	if json.Unmarshal(b, &object) != nil || json.Unmarshal(object["codecs"], &codecs) != nil {
		return nil, fmt.Errorf("malformed capabilities: %w", errs.ErrInvalid)
	}
	caps, readable := &workerv1.RtpCapabilities{}, len(codecs) == 0
	for _, raw := range codecs {
		codec, ok := codecFrom(raw)
		readable = readable || ok
		if ok && isAudio(codec.GetMimeType()) && len(caps.GetCodecs()) < maxEntries {
			caps.Codecs = append(caps.Codecs, codec)
		}
	}
	if !readable {
		return nil, fmt.Errorf("no readable codec: %w", errs.ErrInvalid)
	}
	for _, raw := range items(object["headerExtensions"]) {
		e := &workerv1.RtpHeaderExtension{}
		if fromJSON(raw, e) == nil && e.GetKind() != "video" && len(caps.GetHeaderExtensions()) < maxEntries {
			caps.HeaderExtensions = append(caps.HeaderExtensions, e)
		}
	}
	return caps, nil
}

// isAudio reports whether a codec may be one of a router's.
func isAudio(mimeType string) bool { return strings.HasPrefix(strings.ToLower(mimeType), "audio/") }

// codecFrom reads one codec. What is odd about one of its fields costs that field
// alone; without a mime type it is none.
func codecFrom(raw json.RawMessage) (codec *workerv1.RtpCodecCapability, ok bool) {
	codec = &workerv1.RtpCodecCapability{}
	if fromJSON(raw, codec) == nil {
		return codec, codec.GetMimeType() != ""
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil {
		return nil, false
	}
	codec = &workerv1.RtpCodecCapability{}
	for _, name := range []string{"kind", "mimeType", "preferredPayloadType", "clockRate", "channels", "parameters"} {
		mergeField(codec, name, object[name])
	}
	for _, item := range items(object["rtcpFeedback"]) {
		mergeField(codec, "rtcpFeedback", []byte("["+string(item)+"]"))
	}
	return codec, codec.GetMimeType() != ""
}

// mergeField reads one field into m, and leaves m as it is when it cannot be read.
func mergeField(m proto.Message, name string, raw json.RawMessage) {
	if len(raw) == 0 {
		return
	}
	part := m.ProtoReflect().New().Interface()
	if fromJSON([]byte(`{"`+name+`":`+string(raw)+`}`), part) == nil {
		proto.Merge(m, part)
	}
}

// items are the elements of a JSON array, none of anything else.
func items(raw json.RawMessage) []json.RawMessage {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return nil
	}
	return list
}

// dtlsParametersFrom reads a client's DTLS parameters. A fingerprint that cannot be
// read is left out: another may serve. Faults wrap errs.ErrInvalid.
func dtlsParametersFrom(b []byte) (*workerv1.DtlsParameters, error) {
	params := &workerv1.DtlsParameters{}
	if fromJSON(b, params) == nil {
		return params, nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(b, &object); err != nil {
		return nil, fmt.Errorf("malformed DtlsParameters: %w", errs.ErrInvalid)
	}
	var list []json.RawMessage
	if json.Unmarshal(object["fingerprints"], &list) != nil {
		return nil, fmt.Errorf("malformed DtlsParameters: %w", errs.ErrInvalid)
	}
	object["fingerprints"] = json.RawMessage("[]")
	rest, err := json.Marshal(object)
	if err == nil {
		params = &workerv1.DtlsParameters{}
		err = fromJSON(rest, params)
	}
	if err != nil {
		return nil, fmt.Errorf("malformed DtlsParameters: %w", errs.ErrInvalid)
	}
	for _, raw := range list {
		f := &workerv1.DtlsFingerprint{}
		if fromJSON(raw, f) == nil && len(params.GetFingerprints()) < maxEntries {
			params.Fingerprints = append(params.Fingerprints, f)
		}
	}
	if len(params.GetFingerprints()) == 0 {
		return nil, fmt.Errorf("no readable fingerprint: %w", errs.ErrInvalid)
	}
	return params, nil
}
