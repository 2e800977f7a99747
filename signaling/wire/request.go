package wire

import (
	"encoding/json"

	"github.com/dspeak/sfu/internal/ident"
)

// Types of the messages that a client sends.
const (
	TypePing                  = "ping"
	TypePong                  = "pong"
	TypeGetRtpCapabilities    = "get-rtp-capabilities"
	TypeClientRtpCapabilities = "client-rtp-capabilities"
	TypeCreateTransport       = "create-transport"
	TypeConnectTransport      = "connect-transport"
	TypeProduce               = "produce"
	TypeConsume               = "consume"
	TypePause                 = "pause"
	TypeResume                = "resume"
	TypeCloseProducer         = "close-producer"
	TypeCloseTransport        = "close-transport"
)

// Request is one message of a client.
type Request struct {
	// Type is one of the constants above.
	Type string
	// RequestID is the client's own mark as JSON, to be echoed in every answer; nil when it sent none.
	RequestID json.RawMessage
	// Data holds what the type carries; never nil.
	Data Payload
}

// Payload is the decoded data of a request: one of the types below.
type Payload interface{ payload() }

// Ping asks for a Pong.
type Ping struct{}

// Pong is a sign of life.
type Pong struct{}

// GetRtpCapabilities asks for the router's capabilities.
type GetRtpCapabilities struct{}

// ClientRtpCapabilities tells what the client can receive.
type ClientRtpCapabilities struct {
	// RtpCapabilities is a JSON object with an array "codecs".
	RtpCapabilities json.RawMessage
}

// CreateTransport asks for a transport.
type CreateTransport struct {
	// Direction is "send", "recv" or empty.
	Direction string
}

// ConnectTransport starts DTLS.
type ConnectTransport struct {
	// TransportID is empty when the client named none: all of this user's transports that are not connected yet.
	TransportID ident.TransportID
	// DtlsParameters is a JSON object, or nil when Fault is set.
	DtlsParameters json.RawMessage
	// Fault is what is wrong with the data, to be answered once a transport was found; nil when it is right.
	Fault *Error
}

// Produce asks to send media.
type Produce struct {
	// TransportID is empty when the client named none: the user's first transport.
	TransportID ident.TransportID
	// Kind is the media kind as the client wrote it, at most 16 bytes.
	Kind string
	// RtpParameters is a JSON object, or nil when Fault is set.
	RtpParameters json.RawMessage
	// Fault is what is wrong with the data, to be answered once a transport was found; nil when it is right.
	Fault *Error
}

// Consume asks to receive a producer.
type Consume struct {
	// ProducerID is empty when the client named none: any producer of another user not consumed yet.
	ProducerID ident.ProducerID
	// TransportID is empty when the client named none: the newest connected transport, else the newest.
	TransportID ident.TransportID
	// RtpCapabilities is a JSON object with an array "codecs", or nil: those last sent.
	RtpCapabilities json.RawMessage
}

// Pause pauses what one id names; all are empty when the client named nothing.
type Pause struct{ Target }

// Resume resumes what one id names; all are empty when the client named nothing.
type Resume struct{ Target }

// Target names a transport, a producer or a consumer: at most one id is set.
type Target struct {
	TransportID ident.TransportID
	ProducerID  ident.ProducerID
	ConsumerID  ident.ConsumerID
}

// CloseProducer ends a producer.
type CloseProducer struct{ ProducerID ident.ProducerID }

// CloseTransport ends a transport.
type CloseTransport struct{ TransportID ident.TransportID }

func (Ping) payload()                  {}
func (Pong) payload()                  {}
func (GetRtpCapabilities) payload()    {}
func (ClientRtpCapabilities) payload() {}
func (CreateTransport) payload()       {}
func (ConnectTransport) payload()      {}
func (Produce) payload()               {}
func (Consume) payload()               {}
func (Pause) payload()                 {}
func (Resume) payload()                {}
func (CloseProducer) payload()         {}
func (CloseTransport) payload()        {}
