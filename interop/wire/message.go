package wire

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/dspeak/sfu/internal/ident"
)

// Message is one message to the main server: one of the types below.
type Message interface{ body() any }

// PresenceEvent is what happened to a user.
type PresenceEvent string

// The presence events.
const (
	EventJoin         PresenceEvent = "join"
	EventLeave        PresenceEvent = "leave"
	EventStartProduce PresenceEvent = "start_produce"
	EventStopProduce  PresenceEvent = "stop_produce"
	EventStagedLeave  PresenceEvent = "staged-leave"
	EventRejoin       PresenceEvent = "rejoin"
)

// Reasons of EventStagedLeave, in the words that the main server knows.
const (
	// ReasonClientClose: the user's last socket ended, on purpose or not.
	ReasonClientClose = "client-close"
	// ReasonHeartbeatTimeout: the user's last socket was silent for too long.
	ReasonHeartbeatTimeout = "heartbeat-timeout"
	// ReasonDtlsFailed: the user's media failed, and nothing of it is left.
	ReasonDtlsFailed = "dtls-failed"
)

// ProducerEvent is what happened to a producer.
type ProducerEvent string

// The producer events.
const (
	EventAdd    ProducerEvent = "add"
	EventRemove ProducerEvent = "remove"
)

// Status is the state of the backend.
type Status string

// The states.
const (
	StatusOK    Status = "ok"
	StatusError Status = "error"
)

// MediaPresence tells of a user.
type MediaPresence struct {
	Event     PresenceEvent
	UserID    ident.UserID
	ChannelID ident.ChannelID
	Time      time.Time
	// Reason is left out when empty.
	Reason string
}

// MediaProducer tells of a producer.
type MediaProducer struct {
	Event      ProducerEvent
	UserID     ident.UserID
	ChannelID  ident.ChannelID
	ProducerID ident.ProducerID
	Time       time.Time
}

// ChannelPresenceSync tells all users now in a channel.
type ChannelPresenceSync struct {
	ChannelID ident.ChannelID
	UserIDs   []ident.UserID
}

// SfuStatus tells how the backend is.
type SfuStatus struct {
	Status  Status
	Details string
}

// ErrorMessage tells a fault; it travels both ways.
type ErrorMessage struct{ Text string }

// timeFormat is RFC 3339 with milliseconds.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

func stamp(t time.Time) string { return t.UTC().Format(timeFormat) }

// Encode writes a message as JSON.
func Encode(m Message) ([]byte, error) {
	b, err := json.Marshal(m.body())
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", m, err)
	}
	return b, nil
}

func (m MediaPresence) body() any {
	return struct {
		Type      string          `json:"type"`
		Event     PresenceEvent   `json:"event"`
		UserID    ident.UserID    `json:"userId"`
		ChannelID ident.ChannelID `json:"channelId"`
		Timestamp string          `json:"timestamp"`
		Reason    string          `json:"reason,omitempty"`
	}{"media_presence", m.Event, m.UserID, m.ChannelID, stamp(m.Time), m.Reason}
}

func (m MediaProducer) body() any {
	return struct {
		Type       string           `json:"type"`
		Event      ProducerEvent    `json:"event"`
		UserID     ident.UserID     `json:"userId"`
		ChannelID  ident.ChannelID  `json:"channelId"`
		ProducerID ident.ProducerID `json:"producerId"`
		Timestamp  string           `json:"timestamp"`
	}{"media_producer", m.Event, m.UserID, m.ChannelID, m.ProducerID, stamp(m.Time)}
}

func (m ChannelPresenceSync) body() any {
	users := m.UserIDs
	if users == nil {
		users = []ident.UserID{}
	}
	return struct {
		Type      string          `json:"type"`
		ChannelID ident.ChannelID `json:"channelId"`
		UserIDs   []ident.UserID  `json:"userIds"`
	}{"channel_presence_sync", m.ChannelID, users}
}

func (m SfuStatus) body() any {
	return struct {
		Type    string `json:"type"`
		Status  Status `json:"status"`
		Details string `json:"details"`
	}{"sfu_status", m.Status, m.Details}
}

func (m ErrorMessage) body() any {
	return struct {
		Type string `json:"type"`
		Data string `json:"data"`
	}{"error", m.Text}
}
