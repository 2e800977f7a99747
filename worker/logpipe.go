package worker

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// LogPipe writes a process's log lines to a pipe and never blocks: the media loop
// logs, too, and must not stand still because the supervisor, which reads the
// other end, was stopped. Lines that find the pipe full are dropped; the next that
// fits is preceded by their number. Any goroutine may write.
type LogPipe struct {
	fd int

	mu      sync.Mutex
	dropped int  // guarded by mu: lines since the last that fitted
	torn    bool // guarded by mu: the last line was cut short
}

// NewLogPipe makes the descriptor non-blocking and writes to it. The descriptor
// stays the caller's.
func NewLogPipe(fd int) (*LogPipe, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("make log pipe non-blocking: %w", err)
	}
	return &LogPipe{fd: fd}, nil
}

// Replace makes all that is written from now on go to the pipe behind fd: the lines,
// and what the runtime itself writes to the former descriptor, which becomes a copy of
// fd. fd stays the caller's.
func (p *LogPipe) Replace(fd int) error {
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("make log pipe non-blocking: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := unix.Dup3(fd, p.fd, 0); err != nil {
		return fmt.Errorf("replace log pipe: %w", err)
	}
	p.torn = false
	return nil
}

// Write takes one line and never fails.
func (p *LogPipe) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.torn {
		if p.tryLocked([]byte("\n")) == 0 {
			p.dropped++
			return len(line), nil
		}
		p.torn = false
	}
	if p.dropped > 0 {
		note := fmt.Appendf(nil, `{"level":"WARN","msg":"log lines dropped","lines":%d}`+"\n", p.dropped)
		// Short enough (PIPE_BUF) to be written whole or not at all.
		if p.tryLocked(note) == 0 {
			p.dropped++
			return len(line), nil
		}
		p.dropped = 0
	}
	switch n := p.tryLocked(line); {
	case n == 0:
		p.dropped++
	case n < len(line):
		p.torn = true
	}
	return len(line), nil
}

// tryLocked writes as much as fits.
func (p *LogPipe) tryLocked(b []byte) int {
	for {
		n, err := unix.Write(p.fd, b)
		if !errors.Is(err, unix.EINTR) {
			return max(n, 0)
		}
	}
}
