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
	// headLines and tailLines are how much of a worker's plain error output a crash
	// report holds: a Go panic says why in its first lines and where in the next.
	headLines = 12
	tailLines = 28
	// maxReportLine bounds a line of the report.
	maxReportLine = 300
)

// relay passes a worker's error output on to the supervisor's log, line by line:
// JSON lines with their own level and attributes, anything else (a Go panic) as it
// is. One goroutine writes.
type relay struct {
	mu   sync.Mutex
	log  *slog.Logger // guarded by mu: it gains attributes when a spare gets its slot
	head []string     // guarded by mu: the first lines, of the last panic if there is one
	tail []string     // guarded by mu: the last lines after them
	line []byte       // of the writer
}

func (r *relay) setLog(log *slog.Logger) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = log
}

// tailText is what the worker said last in plain lines.
func (r *relay) tailText() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(slices.Concat(r.head, r.tail), "\n")
}

func (r *relay) rememberLocked(line string) {
	line = line[:min(len(line), maxReportLine)]
	if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
		r.head, r.tail = nil, nil
	}
	if len(r.head) < headLines {
		r.head = append(r.head, line)
		return
	}
	r.tail = append(r.tail, line)
	r.tail = r.tail[max(0, len(r.tail)-tailLines):]
}

// flush passes on what came without a line's end. Nothing is written after it.
func (r *relay) flush() {
	if len(r.line) > 0 {
		r.emit(r.line)
		r.line = nil
	}
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
		r.rememberLocked(text)
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
