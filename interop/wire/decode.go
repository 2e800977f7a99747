package wire

import (
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/dspeak/sfu/internal/ident"
)

// Bounds of an incoming message's parts.
const (
	maxTypeBytes   = 64
	maxIDBytes     = 4096
	maxReasonBytes = 512
)

// ForceDisconnect asks to remove a user from a channel.
type ForceDisconnect struct {
	UserID    ident.UserID
	ChannelID ident.ChannelID
	// Reason is empty when none is given, and at most 512 bytes.
	Reason string
}

// Incoming is a decoded message of the main server: ForceDisconnect or ErrorMessage.
type Incoming interface{ incoming() }

func (ForceDisconnect) incoming() {}
func (ErrorMessage) incoming()    {}

// DecodeError is what is wrong with an incoming message.
type DecodeError struct {
	// Answer is what the main server is told; empty when it is told nothing.
	Answer string
}

// Error is the text for the log.
func (f *DecodeError) Error() string {
	if f.Answer == "" {
		return "not JSON"
	}
	return f.Answer
}

// Decode reads one message of the main server. Names are case-sensitive and
// unknown fields are ignored.
func Decode(frame []byte) (Incoming, *DecodeError) {
	if !utf8.Valid(frame) || !json.Valid(frame) {
		return nil, &DecodeError{}
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(frame, &fields) != nil {
		return nil, &DecodeError{Answer: "Invalid message format: missing type"}
	}
	typ, ok := text(fields["type"])
	if !ok || typ == "" {
		return nil, &DecodeError{Answer: "Invalid message format: missing type"}
	}
	switch typ {
	case "force_disconnect":
		return decodeForceDisconnect(fields)
	case "error":
		reason, ok := text(fields["data"])
		if !ok {
			reason = string(fields["data"])
		}
		return ErrorMessage{Text: cut(reason, maxReasonBytes)}, nil
	}
	return nil, &DecodeError{Answer: "Unknown message type: " + cut(typ, maxTypeBytes)}
}

func decodeForceDisconnect(fields map[string]json.RawMessage) (Incoming, *DecodeError) {
	user, userOK := text(fields["userId"])
	channel, channelOK := text(fields["channelId"])
	var bad []string
	if !userOK || user == "" || len(user) > maxIDBytes {
		bad = append(bad, "userId")
	}
	if !channelOK || channel == "" || len(channel) > maxIDBytes {
		bad = append(bad, "channelId")
	}
	if len(bad) > 0 {
		return nil, &DecodeError{Answer: "Invalid force_disconnect: missing or invalid " + strings.Join(bad, " and ")}
	}
	reason, _ := text(fields["reason"])
	return ForceDisconnect{
		UserID: ident.UserID(user), ChannelID: ident.ChannelID(channel), Reason: cut(reason, maxReasonBytes),
	}, nil
}

// text reads a JSON string; of anything else ok is false.
func text(raw json.RawMessage) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// cut returns s with at most n bytes, cut between characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
