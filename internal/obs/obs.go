// Package obs owns how the processes log: the handler set-up, the attribute keys, so
// that one thing has one name in every line, and the Sink, so that no line waits for its
// reader.
//
// A Sink has one goroutine, which Sink.Close ends. It imports nothing of the project but errors.
package obs

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/dspeak/sfu/internal/errs"
)

// Attribute keys of log lines.
const (
	KeyWorker     = "worker"
	KeyChannel    = "channel"
	KeyUser       = "user"
	KeyRouter     = "router"
	KeyTransport  = "transport"
	KeyProducer   = "producer"
	KeyConsumer   = "consumer"
	KeySession    = "session"
	KeySlot       = "slot"
	KeyPID        = "pid"
	KeyGeneration = "generation"
	KeyReason     = "reason"
	KeyRemote     = "remote"
	KeyError      = "error"
)

// NewLogger returns a logger that writes lines of the format "text" or "json"
// from the given level up. Any other format is an ErrInvalid.
func NewLogger(w io.Writer, level slog.Leveler, format string) (*slog.Logger, error) {
	opts := &slog.HandlerOptions{Level: level}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("log format %q, want text or json: %w", format, errs.ErrInvalid)
}

// Err is the attribute of an error.
func Err(err error) slog.Attr { return slog.String(KeyError, err.Error()) }
