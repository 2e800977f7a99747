package wire

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"github.com/dspeak/sfu/internal/ident"
)

// Bounds of a request's parts.
const (
	maxDepth          = 48
	maxRequestIDBytes = 256
	maxIDBytes        = 128
	maxKindBytes      = 16
)

// fields are the members of a JSON object: names as written, of a repeated one the last.
type fields map[string]json.RawMessage

// Decode reads one frame and keeps nothing of it. The returned request holds
// the request id also when the error is not nil, so that the answer can echo it.
func Decode(frame []byte) (Request, *Error) {
	if !utf8.Valid(frame) || tooDeep(frame) || !json.Valid(frame) {
		return Request{}, ErrMalformed()
	}
	top, ok := object(frame)
	if !ok {
		return Request{}, ErrMissingType()
	}
	req := Request{RequestID: requestID(top["requestId"])}
	if req.Type, ok = text(top["type"]); !ok || req.Type == "" {
		return req, ErrMissingType()
	}
	data, fault := decodeData(req.Type, top["data"])
	req.Data = data
	return req, fault
}

// tooDeep says whether the nesting exceeds maxDepth, looking at brackets outside of strings only.
func tooDeep(b []byte) bool {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			if depth++; depth > maxDepth {
				return true
			}
		case '}', ']':
			depth--
		case '"':
			i = stringEnd(b, i)
		}
	}
	return false
}

// stringEnd is the index of the quote that ends the string that starts at i, or of the last byte.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(b) - 1
}

func absent(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

func object(raw json.RawMessage) (fields, bool) {
	if !isObject(raw) {
		return nil, false
	}
	var f fields
	err := json.Unmarshal(raw, &f)
	return f, err == nil
}

// isObject looks at the first character of valid JSON.
func isObject(raw json.RawMessage) bool {
	return bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte{'{'})
}

// text reads a JSON string; of anything else ok is false.
func text(raw json.RawMessage) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// requestID keeps the client's mark when it is short enough to be echoed.
func requestID(raw json.RawMessage) json.RawMessage {
	if absent(raw) || len(raw) > maxRequestIDBytes {
		return nil
	}
	return raw
}

// id reads an optional identifier. An absent one is empty; one that cannot be
// anything's name is not ok.
func id(raw json.RawMessage) (s string, ok bool) {
	if absent(raw) {
		return "", true
	}
	s, ok = text(raw)
	return s, ok && s != "" && len(s) <= maxIDBytes
}

func decodeData(typ string, raw json.RawMessage) (Payload, *Error) {
	data, isObject := object(raw)
	switch typ {
	case TypePing:
		return Ping{}, nil
	case TypePong:
		return Pong{}, nil
	case TypeGetRtpCapabilities:
		return GetRtpCapabilities{}, nil
	case TypeClientRtpCapabilities:
		return decodeCapabilities(raw, data, isObject)
	case TypeCreateTransport:
		return decodeCreate(data), nil
	case TypeConnectTransport:
		return decodeConnect(data)
	case TypeProduce:
		return decodeProduce(data)
	case TypeConsume:
		return decodeConsume(data, isObject || absent(raw))
	}
	return decodeNamed(typ, data)
}

// decodeNamed reads the requests that do nothing but name an object.
func decodeNamed(typ string, data fields) (Payload, *Error) {
	switch typ {
	case TypePause:
		target, fault := decodeTarget(data)
		return Pause{target}, fault
	case TypeResume:
		target, fault := decodeTarget(data)
		return Resume{target}, fault
	case TypeCloseProducer:
		s, ok := id(data["producerId"])
		if !ok || s == "" {
			return CloseProducer{}, ErrProducerNotFound()
		}
		return CloseProducer{ident.ProducerID(s)}, nil
	case TypeCloseTransport:
		s, ok := id(data["transportId"])
		if !ok || s == "" {
			return CloseTransport{}, ErrTransportNotFound()
		}
		return CloseTransport{ident.TransportID(s)}, nil
	}
	return nil, ErrUnknownType(typ)
}

func decodeCapabilities(raw json.RawMessage, data fields, isObject bool) (Payload, *Error) {
	if absent(raw) || isObject && len(data) == 0 {
		return ClientRtpCapabilities{}, ErrMissingCapabilities()
	}
	caps := raw
	if wrapped, ok := data["rtpCapabilities"]; ok {
		if absent(wrapped) {
			return ClientRtpCapabilities{}, ErrMissingCapabilities()
		}
		caps = wrapped
	}
	if !isCapabilities(caps) {
		return ClientRtpCapabilities{}, ErrInvalidCapabilities()
	}
	return ClientRtpCapabilities{caps}, nil
}

// isCapabilities says whether raw is an object with a list of codecs.
func isCapabilities(raw json.RawMessage) bool {
	caps, ok := object(raw)
	return ok && bytes.HasPrefix(caps["codecs"], []byte{'['})
}

func decodeCreate(data fields) CreateTransport {
	switch s, _ := text(data["type"]); s {
	case "send", "recv":
		return CreateTransport{s}
	}
	return CreateTransport{}
}

func decodeConnect(data fields) (Payload, *Error) {
	s, ok := id(data["transportId"])
	if !ok {
		return ConnectTransport{}, ErrTransportNotFound()
	}
	c := ConnectTransport{TransportID: ident.TransportID(s)}
	if !isObject(data["dtlsParameters"]) {
		c.Fault = ErrConnectFailed(fault("dtlsParameters missing or no object"))
		return c, nil
	}
	c.DtlsParameters = data["dtlsParameters"]
	return c, nil
}

func decodeProduce(data fields) (Payload, *Error) {
	s, ok := id(data["transportId"])
	if !ok {
		return Produce{}, ErrTransportNotFound()
	}
	p := Produce{TransportID: ident.TransportID(s)}
	kind, ok := text(data["kind"])
	p.Kind = Cut(kind, maxKindBytes)
	switch {
	case !ok:
		p.Fault = ErrProduceFailed(fault("kind missing or no string"))
	case !isObject(data["rtpParameters"]):
		p.Fault = ErrProduceFailed(fault("rtpParameters missing or no object"))
	default:
		p.RtpParameters = data["rtpParameters"]
	}
	return p, nil
}

func decodeConsume(data fields, ok bool) (Payload, *Error) {
	if !ok {
		return Consume{}, ErrConsumeProducerID()
	}
	var c Consume
	if raw, named := data["producerId"]; named {
		s, ok := text(raw)
		switch {
		case !ok || s == "":
			return c, ErrConsumeProducerID()
		case len(s) > maxIDBytes:
			return c, ErrConsumeNotFound()
		}
		c.ProducerID = ident.ProducerID(s)
	}
	s, ok := id(data["transportId"])
	if !ok {
		return c, ErrTransportNotFound()
	}
	c.TransportID = ident.TransportID(s)
	if caps := data["rtpCapabilities"]; !absent(caps) {
		if !isCapabilities(caps) {
			return c, ErrInvalidCapabilities()
		}
		c.RtpCapabilities = caps
	}
	return c, nil
}

// decodeTarget takes the narrowest of the ids that are there.
func decodeTarget(data fields) (Target, *Error) {
	if raw := data["consumerId"]; !absent(raw) {
		s, ok := id(raw)
		if !ok {
			return Target{}, ErrConsumerNotFound()
		}
		return Target{ConsumerID: ident.ConsumerID(s)}, nil
	}
	if raw := data["producerId"]; !absent(raw) {
		s, ok := id(raw)
		if !ok {
			return Target{}, ErrProducerNotFound()
		}
		return Target{ProducerID: ident.ProducerID(s)}, nil
	}
	s, ok := id(data["transportId"])
	if !ok {
		return Target{}, ErrTransportNotFound()
	}
	return Target{TransportID: ident.TransportID(s)}, nil
}
