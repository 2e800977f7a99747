package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/dspeak/sfu/internal/ident"
)

// Kind says which messages replace each other.
type Kind int

// The kinds. A picture that is newer makes those of its kind that still wait useless.
const (
	KindEvent Kind = iota
	KindInChannel
	KindProducers
)

// Encoded is a message as bytes, to be sent to any number of sockets. It is never changed after Encode.
type Encoded struct {
	kind Kind
	text []byte

	once     sync.Once
	deflated []byte // set once
}

// Bytes is the JSON text. The caller must not change it.
func (e *Encoded) Bytes() []byte { return e.text }

// Kind is the kind of the message.
func (e *Encoded) Kind() Kind { return e.kind }

// Deflated returns the text as compress returns it, which is called once for all
// sockets. Any goroutine may call it.
func (e *Encoded) Deflated(compress func([]byte) []byte) []byte {
	e.once.Do(func() { e.deflated = compress(e.text) })
	return e.deflated
}

// Encode writes a message as JSON. It fails only when a raw JSON field holds no JSON.
func Encode(m Message) (*Encoded, error) {
	if m, ok := m.(picture); ok {
		return &Encoded{kind: m.kind(), text: m.appendJSON(nil)}, nil
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m.body()); err != nil {
		return nil, fmt.Errorf("encode %T: %w", m, err)
	}
	return &Encoded{text: bytes.TrimSuffix(buf.Bytes(), []byte{'\n'})}, nil
}

func (m PongMessage) body() any {
	return struct {
		Type      string          `json:"type"`
		Timestamp int64           `json:"timestamp"`
		RequestID json.RawMessage `json:"requestId"`
	}{TypePong, m.Timestamp, m.RequestID}
}

func (m PingMessage) body() any {
	return struct {
		Type      string `json:"type"`
		Timestamp int64  `json:"timestamp"`
	}{TypePing, m.Timestamp}
}

func (m RtpCapabilitiesMessage) body() any {
	return envelope{"rtp-capabilities", m.RequestID, m.Data}
}

func (m RtpCapabilitiesAck) body() any { return envelope{"rtp-capabilities-ack", m.RequestID, nil} }

func (m TransportParams) body() any { return envelope{"transport-params", m.RequestID, m.Data} }

func (m TransportConnected) body() any {
	if m.ID == "" {
		return envelope{"transport-connected", m.RequestID, nil}
	}
	return envelope{"transport-connected", m.RequestID, struct {
		ID          ident.TransportID `json:"id"`
		TransportID ident.TransportID `json:"transportId"`
	}{m.ID, m.ID}}
}

func (m ProducerIDMessage) body() any {
	return envelope{"producer-id", m.RequestID, struct {
		ID        ident.ProducerID `json:"id"`
		UserID    ident.UserID     `json:"userId"`
		ChannelID ident.ChannelID  `json:"channelId"`
	}{m.ID, m.UserID, m.ChannelID}}
}

func (m Produced) body() any { return envelope{"produced", m.RequestID, m.Data} }

func (m ConsumerParams) body() any { return envelope{"consumer-params", m.RequestID, m.Data} }

// targetData echoes the id of a pause or resume.
type targetData struct {
	TransportID ident.TransportID `json:"transportId,omitempty"`
	ProducerID  ident.ProducerID  `json:"producerId,omitempty"`
	ConsumerID  ident.ConsumerID  `json:"consumerId,omitempty"`
}

func (m Paused) body() any { return envelope{"paused", m.RequestID, targetData(m.Target)} }

func (m Resumed) body() any { return envelope{"resumed", m.RequestID, targetData(m.Target)} }

func (m TransportCloseAnswer) body() any {
	return envelope{"transport-closed", m.RequestID, struct {
		ID ident.TransportID `json:"id"`
	}{m.ID}}
}

func (m Connected) body() any { return envelope{"connected", nil, m} }

func (m NewProducer) body() any { return envelope{"new-producer", nil, m} }

func (m ProducerClosed) body() any {
	return envelope{"producer-closed", m.RequestID, NewProducer{m.ProducerID, m.UserID}}
}

func (m TransportClosed) body() any {
	type data struct {
		ID     ident.TransportID `json:"id"`
		Reason string            `json:"reason"`
	}
	return struct {
		Type        string            `json:"type"`
		TransportID ident.TransportID `json:"transportId"`
		Reason      string            `json:"reason"`
		Data        data              `json:"data"`
	}{"transport-closed", m.ID, m.Reason, data(m)}
}

func (m ForceDisconnect) body() any {
	return struct {
		Type   string `json:"type"`
		Reason string `json:"reason"`
	}{"force_disconnect", m.Reason}
}

// planned is the data of an announced stop.
type planned struct {
	Reason string  `json:"reason"`
	ETA    float64 `json:"eta"`
}

func (m ServerRestarting) body() any {
	return envelope{"server-restarting", nil, planned(m)}
}

func (m ServerShutdown) body() any {
	return envelope{"server-shutdown", nil, planned(m)}
}

func (m ErrorMessage) body() any {
	return struct {
		Type      string          `json:"type"`
		Data      string          `json:"data"`
		RequestID json.RawMessage `json:"requestId,omitempty"`
		Details   string          `json:"details,omitempty"`
		Status    int             `json:"status,omitempty"`
	}{"error", m.Text, m.RequestID, m.Details, m.Status}
}
