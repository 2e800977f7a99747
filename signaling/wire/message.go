package wire

import (
	"encoding/json"

	"github.com/dspeak/sfu/internal/ident"
)

// Message is one message to a client: one of the types of this package that
// have a body. RequestID fields are the echo of the request that is answered;
// nil leaves them out.
type Message interface{ body() any }

// envelope is the usual form of a message.
type envelope struct {
	Type      string          `json:"type"`
	RequestID json.RawMessage `json:"requestId,omitempty"`
	Data      any             `json:"data,omitempty"`
}

// PongMessage answers a ping.
type PongMessage struct {
	// Timestamp is in milliseconds since 1970.
	Timestamp int64
	// RequestID is written as null when it is nil.
	RequestID json.RawMessage
}

// PingMessage is the server's heartbeat.
type PingMessage struct {
	// Timestamp is in milliseconds since 1970.
	Timestamp int64
}

// RtpCapabilitiesMessage answers get-rtp-capabilities.
type RtpCapabilitiesMessage struct {
	RequestID json.RawMessage
	// Data is the router's RtpCapabilities as JSON.
	Data json.RawMessage
}

// RtpCapabilitiesAck answers client-rtp-capabilities. It has no data: the
// client would take codecs in it for the router's and load its device again.
type RtpCapabilitiesAck struct{ RequestID json.RawMessage }

// TransportParams answers create-transport.
type TransportParams struct {
	RequestID json.RawMessage
	Data      TransportParamsData
}

// TransportParamsData describes a transport; all but ID are JSON of mediasoup's shapes.
type TransportParamsData struct {
	ID             ident.TransportID `json:"id"`
	IceParameters  json.RawMessage   `json:"iceParameters"`
	IceCandidates  json.RawMessage   `json:"iceCandidates"`
	DtlsParameters json.RawMessage   `json:"dtlsParameters"`
	// IceServers is a non-empty array, or nil to be left out.
	IceServers json.RawMessage `json:"iceServers,omitempty"`
}

// TransportConnected answers connect-transport; an empty ID leaves the data out.
type TransportConnected struct {
	RequestID json.RawMessage
	ID        ident.TransportID
}

// ProducerIDMessage is the first answer to produce.
type ProducerIDMessage struct {
	RequestID json.RawMessage
	ID        ident.ProducerID
	UserID    ident.UserID
	ChannelID ident.ChannelID
}

// Produced is the second answer to produce.
type Produced struct {
	RequestID json.RawMessage
	Data      ProducedData
}

// ProducedData describes the new producer.
type ProducedData struct {
	ID            ident.ProducerID `json:"id"`
	UserID        ident.UserID     `json:"userId"`
	ChannelID     ident.ChannelID  `json:"channelId"`
	Kind          string           `json:"kind"`
	RtpParameters json.RawMessage  `json:"rtpParameters"`
}

// ConsumerParams answers consume.
type ConsumerParams struct {
	RequestID json.RawMessage
	Data      ConsumerParamsData
}

// ConsumerParamsData describes the new consumer.
type ConsumerParamsData struct {
	ID            ident.ConsumerID `json:"id"`
	ProducerID    ident.ProducerID `json:"producerId"`
	Kind          string           `json:"kind"`
	RtpParameters json.RawMessage  `json:"rtpParameters"`
	// UserID is the speaker's.
	UserID ident.UserID `json:"userId"`
}

// Paused answers pause, with the id that the request named.
type Paused struct {
	RequestID json.RawMessage
	Target    Target
}

// Resumed answers resume, with the id that the request named.
type Resumed struct {
	RequestID json.RawMessage
	Target    Target
}

// TransportCloseAnswer answers close-transport.
type TransportCloseAnswer struct {
	RequestID json.RawMessage
	ID        ident.TransportID
}

// CurrentlyInChannel tells who is in the channel. All three lists are written,
// empty ones too.
type CurrentlyInChannel struct {
	InRoom    []ident.UserID
	Producers []Production
}

// Texts of Connected.
const (
	MessageConnected = "dspeak socket connection successful"
	MessageRestored  = "dspeak session restored"
)

// Connected tells a socket that it has joined.
type Connected struct {
	ChannelID ident.ChannelID `json:"channelId"`
	UserID    ident.UserID    `json:"userId"`
	// Message is MessageConnected or MessageRestored.
	Message string `json:"message"`
}

// AvailableProducers tells the whole channel after a produce.
type AvailableProducers struct {
	Producers []Production
}

// NewProducer tells the others of a produce.
type NewProducer struct {
	ProducerID ident.ProducerID `json:"producerId"`
	UserID     ident.UserID     `json:"userId"`
}

// ProducerClosed tells that a producer ended.
type ProducerClosed struct {
	// RequestID is set in the copy for the client that asked.
	RequestID  json.RawMessage
	ProducerID ident.ProducerID
	UserID     ident.UserID
}

// TransportClosed tells that the server gave a transport up.
type TransportClosed struct {
	ID     ident.TransportID
	Reason string
}

// ForceDisconnect tells that the user is removed.
type ForceDisconnect struct{ Reason string }

// ServerRestarting announces a planned restart.
type ServerRestarting struct {
	Reason string
	// ETA is in seconds.
	ETA float64
}

// ServerShutdown announces a planned end.
type ServerShutdown struct {
	Reason string
	// ETA is in seconds.
	ETA float64
}

// ErrorMessage tells a fault.
type ErrorMessage struct {
	RequestID json.RawMessage
	Text      string
	// Details is left out when empty.
	Details string
	// Status is left out when 0.
	Status int
}
