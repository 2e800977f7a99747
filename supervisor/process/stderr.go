package process

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
)

const (
	maxLine = 16 << 10
	// tailLines is how much of a worker's plain error output a crash report holds.
	tailLines = 40
)

// relay passes a worker's error output on to the supervisor's log, line by line:
// JSON lines with their own level and attributes, anything else (a Go panic) as it
// is. One goroutine writes.
type relay struct {
	mu   sync.Mutex
	log  *slog.Logger // guarded by mu: it gains attributes when a spare gets its slot
	tail []string     // guarded by mu
	line []byte       // of the writer
}

func (r *relay) setLog(log *slog.Logger) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = log
}

// tailText is the last plain lines.
func (r *relay) tailText() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.tail, "\n")
}

// Write takes a part of the stream. It never fails.
func (r *relay) Write(b []byte) (int, error) {
	n := len(b)
	for {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			r.line = append(r.line, b[:min(len(b), maxLine-min(len(r.line), maxLine))]...)
			return n, nil
		}
		r.line = append(r.line, b[:min(end, maxLine-min(len(r.line), maxLine))]...)
		r.emit(r.line)
		r.line = r.line[:0]
		b = b[end+1:]
	}
}

func (r *relay) emit(line []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var fields map[string]any
	if json.Unmarshal(line, &fields) != nil {
		text := string(line)
		r.tail = append(r.tail, text)
		r.tail = r.tail[max(0, len(r.tail)-tailLines):]
		r.log.Warn("worker error output", slog.String("line", text))
		return
	}
	var level slog.Level
	if text, ok := fields["level"].(string); !ok || level.UnmarshalText([]byte(text)) != nil {
		level = slog.LevelInfo
	}
	text, _ := fields["msg"].(string)
	keys := make([]string, 0, len(fields))
	for key := range fields {
		if key != "level" && key != "msg" && key != "time" {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	attrs := []slog.Attr{slog.String("message", text)}
	for _, key := range keys {
		attrs = append(attrs, slog.Any(key, fields[key]))
	}
	r.log.LogAttrs(context.Background(), level, "worker log", attrs...)
}
