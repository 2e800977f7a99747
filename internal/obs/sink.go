package obs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxQueued bounds the bytes of the lines that wait for the descriptor.
	maxQueued = 1 << 20
	// lineOverhead is what a queued line costs beside its bytes.
	lineOverhead = 64
	// firstRetry and lastRetry bound the pause after a write that failed; it doubles.
	firstRetry = 50 * time.Millisecond
	lastRetry  = 2 * time.Second
	// pollInterval is how often a writer that waits for room looks whether it is to end.
	pollInterval = time.Second
)

// Sink writes log lines to a descriptor in the background, so that no caller waits for
// whoever reads them: a pipe that nobody empties, a full disk, a terminal that is gone.
// Lines wait in a bounded queue while writing fails. Lines that find the queue full are
// dropped, and a line with their number follows once there is room again.
//
// A Sink has one goroutine, which Close ends. Any goroutine may use its methods.
type Sink struct {
	fd   int
	wake chan struct{} // has a message for a writer that pauses
	done chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	changed *sync.Cond                 // with mu: the queue is empty, or a write failed
	note    func(dropped int64) []byte // guarded by mu: the line that tells the number
	queue   [][]byte                   // guarded by mu: the first is being written
	size    int                        // guarded by mu: of the queue
	dropped int64                      // guarded by mu: not yet told
	faults  int                        // guarded by mu: writes that failed
	closing bool                       // guarded by mu
}

// NewSink returns a Sink that writes to the descriptor, which stays the caller's.
func NewSink(fd int) *Sink {
	s := &Sink{fd: fd, wake: make(chan struct{}, 1), done: make(chan struct{})}
	s.changed = sync.NewCond(&s.mu)
	s.note = func(n int64) []byte { return fmt.Appendf(nil, "log lines dropped lines=%d\n", n) }
	go s.run()
	return s
}

// NewLogger is the function NewLogger with the Sink as the writer. The number of dropped
// lines is told in the same format from then on.
func (s *Sink) NewLogger(level slog.Leveler, format string) (*slog.Logger, error) {
	log, err := NewLogger(s, level, format)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note = func(dropped int64) []byte {
		var line bytes.Buffer
		if log, err := NewLogger(&line, slog.LevelWarn, format); err == nil {
			log.LogAttrs(context.Background(), slog.LevelWarn, "log lines dropped", slog.Int64("lines", dropped))
		}
		return line.Bytes()
	}
	return log, nil
}

// Write queues a copy of the line. It never waits and never fails.
func (s *Sink) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	room := maxQueued - s.size
	if s.dropped > 0 { // until half of the queue is free: the number is told once, not with each line
		room -= maxQueued / 2
	}
	if s.closing || len(line)+lineOverhead > room {
		s.dropped++
		return len(line), nil
	}
	s.tellDroppedLocked()
	s.pushLocked(bytes.Clone(line))
	return len(line), nil
}

func (s *Sink) tellDroppedLocked() {
	if s.dropped > 0 {
		s.pushLocked(s.note(s.dropped))
		s.dropped = 0
	}
}

func (s *Sink) pushLocked(line []byte) {
	s.queue = append(s.queue, line)
	s.size += len(line) + lineOverhead
	if len(s.queue) == 1 {
		s.awake()
	}
}

func (s *Sink) awake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Flush waits until everything is written, a write fails, or the limit is over.
func (s *Sink) Flush(limit time.Duration) {
	over := false
	timer := time.AfterFunc(limit, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		over = true
		s.changed.Broadcast()
	})
	defer timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	faults := s.faults
	s.awake()
	for len(s.queue) > 0 && s.faults == faults && !over && !s.closing {
		s.changed.Wait()
	}
}

// Close flushes and ends the goroutine; later lines are dropped. A goroutine that the
// kernel does not let go of when the limit is over ends with the process.
func (s *Sink) Close(limit time.Duration) {
	deadline := time.Now().Add(limit)
	s.mu.Lock()
	if !s.closing {
		s.tellDroppedLocked()
	}
	s.mu.Unlock()
	s.Flush(limit)
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.awake()
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-s.done:
	case <-timer.C:
	}
}

// run writes the lines in their order.
func (s *Sink) run() {
	defer close(s.done)
	pause := firstRetry
	written := 0 // of the first line
	for {
		line, ok := s.next()
		if !ok {
			return
		}
		n, err := s.write(line[written:])
		written += n
		switch {
		case err == nil:
			s.shift(nil)
			written, pause = 0, firstRetry
		case errors.Is(err, unix.EMSGSIZE), errors.Is(err, unix.EINVAL): // it never fits
			s.shift(err)
			written = 0
		default:
			if errors.Is(err, unix.EPIPE) {
				written = 0 // whoever reads next gets the whole line
			}
			s.failed()
			s.pause(pause)
			pause = min(2*pause, lastRetry)
		}
	}
}

// next waits for a line and returns it without removing it. False: the Sink is closed.
func (s *Sink) next() ([]byte, bool) {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 && !s.closing {
			s.tellDroppedLocked()
		}
		if s.closing {
			s.mu.Unlock()
			return nil, false
		}
		if len(s.queue) > 0 {
			line := s.queue[0]
			s.mu.Unlock()
			return line, true
		}
		s.mu.Unlock()
		<-s.wake
	}
}

// shift removes the first line, which was written, or dropped for the reason err.
func (s *Sink) shift(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.size -= len(s.queue[0]) + lineOverhead
	s.queue[0] = nil
	if s.queue = s.queue[1:]; len(s.queue) == 0 {
		s.queue = nil
	}
	if err != nil {
		s.dropped++
	}
	if len(s.queue) == 0 {
		s.changed.Broadcast()
	}
}

func (s *Sink) failed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults++
	s.changed.Broadcast()
}

// pause waits; Flush and Close end it early.
func (s *Sink) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.wake:
	}
}

// write writes the bytes whole, or returns how many it has written and why no more. It
// waits while there is no room, in the kernel or in poll(2), until the Sink is closed.
func (s *Sink) write(b []byte) (int, error) {
	written, vain := 0, false
	for written < len(b) {
		n, err := unix.Write(s.fd, b[written:])
		switch {
		case err == nil:
			written, vain = written+n, false
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			if vain { // poll(2) saw room that write(2) does not see
				s.pause(firstRetry)
			}
			vain = true
			if ready := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}; !s.room(ready) { //nolint:gosec // a descriptor
				return written, err
			}
		default:
			return written, err
		}
	}
	return written, nil
}

// room waits for room. False: the Sink is closed, or poll(2) fails.
func (s *Sink) room(ready []unix.PollFd) bool {
	for {
		n, err := unix.Poll(ready, int(pollInterval.Milliseconds()))
		switch {
		case n > 0:
			return true
		case err != nil && !errors.Is(err, unix.EINTR):
			return false
		}
		s.mu.Lock()
		closing := s.closing
		s.mu.Unlock()
		if closing {
			return false
		}
	}
}
