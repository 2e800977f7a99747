package handoff

import (
	"encoding/json"
	"fmt"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
)

// Protocol is the version of this contract. Both sides must speak the same.
const Protocol = 1

// FD is the inherited descriptor of the worker's end.
const FD = 3

// Exit codes of a worker.
const (
	ExitOK = 0
	// ExitFailure: the worker may be started again.
	ExitFailure = 1
	// ExitBadSettings: it would fail again the same way and is never restarted. The
	// code is EX_CONFIG of sysexits; 2 would not do, a panic of a Go program ends with it.
	ExitBadSettings = 78
)

// Names of the files that travel with Assign.
const (
	FileUDP4 = "udp4"
	FileUDP6 = "udp6"
	FileTCP4 = "tcp4"
	FileTCP6 = "tcp6"
)

// maxMessage bounds a message, maxFiles the files with it.
const (
	maxMessage = 64 << 10
	maxFiles   = 16
)

// Message is one message of the contract: exactly one field is set.
type Message struct {
	Hello  *Hello  `json:"hello,omitempty"`
	Assign *Assign `json:"assign,omitempty"`
	Ready  *Ready  `json:"ready,omitempty"`
	Failed *Failed `json:"failed,omitempty"`
}

// Hello is the worker's first message.
type Hello struct {
	Protocol int `json:"protocol"`
	PID      int `json:"pid"`
}

// Assign gives a worker its slot. Durations are nanoseconds.
type Assign struct {
	Slot       ident.Slot       `json:"slot"`
	Generation ident.Generation `json:"generation"`
	// Socket is the path on which the worker serves gRPC.
	Socket string `json:"socket"`
	// LogLevel is a slog level: "DEBUG", "INFO", "WARN" or "ERROR".
	LogLevel string `json:"logLevel"`
	// Announced are literal addresses with ports for transports that name none.
	Announced []string `json:"announced,omitempty"`
	// OrphanTimeout is how long a worker without users stays when its supervisor is gone.
	OrphanTimeout int64 `json:"orphanTimeout"`
	// MaxWait bounds how long packets wait for others to the same destination; 0 is the default.
	MaxWait int64 `json:"maxWait,omitempty"`
	// Files names the descriptors that travel with the message, in order.
	Files []string `json:"files,omitempty"`
}

// Ready says that the worker serves.
type Ready struct{}

// Failed says why a worker cannot serve; it exits after it.
type Failed struct {
	Reason string `json:"reason"`
}

// Decode reads a message. Malformed input is an error that wraps errs.ErrInvalid.
func Decode(b []byte) (Message, error) {
	var m Message
	if len(b) > maxMessage {
		return m, fmt.Errorf("handoff message of %d bytes: %w", len(b), errs.ErrInvalid)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("decode handoff message: %w: %w", err, errs.ErrInvalid)
	}
	set := 0
	for _, is := range []bool{m.Hello != nil, m.Assign != nil, m.Ready != nil, m.Failed != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		return Message{}, fmt.Errorf("handoff message with %d bodies: %w", set, errs.ErrInvalid)
	}
	if a := m.Assign; a != nil && len(a.Files) > maxFiles {
		return Message{}, fmt.Errorf("handoff of %d files: %w", len(a.Files), errs.ErrExhausted)
	}
	return m, nil
}
