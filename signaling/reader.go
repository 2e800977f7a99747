package signaling

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/gorilla/websocket"

	"github.com/dspeak/sfu/signaling/wire"
)

const (
	// costBytes is how much of a message counts as one more message.
	costBytes = 16 << 10
	// maxDrain bounds what a closing socket still reads, so that the close frame is not lost to a TCP reset.
	maxDrain = 16 << 20
	// maxMalformedLogs bounds the log lines that one client can cause.
	maxMalformedLogs = 10
)

// read takes messages until the connection ends.
func (s *Session) read() {
	// Only the writer writes: control frames are answered through the queue.
	s.conn.SetPingHandler(func(data string) error {
		s.alive()
		if !s.charge(len(data)) {
			return errClosing
		}
		s.intake.forgive(data)
		s.put(frame{pong: []byte(data)})
		return nil
	})
	s.conn.SetPongHandler(func(data string) error {
		s.alive()
		if !s.charge(len(data)) {
			return errClosing
		}
		s.intake.forgive(data)
		return nil
	})
	s.conn.SetCloseHandler(func(code int, reason string) error {
		s.finish(wire.CloseCause{Cause: wire.CauseClient, Code: code, Reason: reason}, true)
		return nil
	})
	s.alive()
	for s.out.ended() == nil {
		if err := s.readMessage(); err != nil {
			s.readEnded(err)
			break
		}
	}
	s.drain()
}

// errClosing ends the reading of a socket that is being closed.
var errClosing = errors.New("closing")

func (s *Session) readMessage() error {
	s.allowIntake()
	_, r, err := s.conn.NextReader()
	if err != nil {
		return err
	}
	limit := s.limits.MessageBytes
	message, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return err
	}
	if int64(len(message)) > limit {
		s.finish(wire.CloseCause{Cause: wire.CauseOversized, Code: wire.ClosePolicy, Reason: wire.ReasonOversized}, true)
		return errClosing
	}
	s.alive()
	if !s.charge(len(message)) {
		return errClosing
	}
	s.accept(message)
	return nil
}

// allowIntake lets the client send what one message may take on the wire. Fragments and
// compression may add to what it says.
func (s *Session) allowIntake() { s.intake.left = 2*s.limits.MessageBytes + bufferBytes }

// charge takes a message from the client's budget, and closes the socket when nothing is left.
func (s *Session) charge(size int) bool {
	if s.limiter.AllowN(time.Now(), 1+size/costBytes) {
		return true
	}
	s.finish(wire.CloseCause{Cause: wire.CauseFlood, Code: wire.ClosePolicy, Reason: wire.ReasonRate}, true)
	return false
}

// accept answers a ping and queues everything else. Before the socket has
// joined, pings wait with the rest.
func (s *Session) accept(message []byte) {
	req, fault := wire.Decode(message)
	if fault != nil {
		s.logMalformed(fault, len(message))
	}
	if fault == nil && s.joined.Load() {
		switch req.Data.(type) {
		case wire.Ping:
			s.pong(req)
			return
		case wire.Pong:
			return
		}
	}
	if !s.in.put(item{req, fault, len(message)}, s.joined.Load()) {
		s.finish(wire.CloseCause{Cause: wire.CauseFlood, Code: wire.ClosePolicy, Reason: wire.ReasonPending}, true)
	}
}

func (s *Session) pong(req wire.Request) {
	s.Send(wire.PongMessage{Timestamp: time.Now().UnixMilli(), RequestID: req.RequestID})
}

// logMalformed tells of a bad message without its text, which may hold anything.
func (s *Session) logMalformed(fault *wire.Error, size int) {
	if s.malformed++; s.malformed <= maxMalformedLogs {
		s.base.Warn("bad message", "fault", fault.Text, "bytes", size, "count", s.malformed)
	}
}

// readEnded says why nothing more can be read.
func (s *Session) readEnded(err error) {
	cause := wire.CloseCause{Cause: wire.CauseLost, Code: wire.CloseAbnormal}
	closed, isClose := errors.AsType[*websocket.CloseError](err)
	switch {
	case errors.Is(err, errIntake):
		cause = wire.CloseCause{Cause: wire.CauseOversized, Code: wire.ClosePolicy, Reason: wire.ReasonOversized}
	case isClose && closed.Code != wire.CloseAbnormal:
		cause = wire.CloseCause{Cause: wire.CauseClient, Code: closed.Code, Reason: closed.Text}
	case !s.intake.broken:
		cause = wire.CloseCause{Cause: wire.CauseProtocol, Code: wire.CloseProtocol, Reason: wire.ReasonProtocol}
	}
	s.finish(cause, true)
}

// timedOut says whether a deadline ended an operation. The WebSocket library
// replaces os.ErrDeadlineExceeded by an error of its own.
func timedOut(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// drain throws away what the client sends until its close frame, the deadline, or the bound.
func (s *Session) drain() {
	s.intake.left = maxDrain
	for left := int64(maxDrain); left > 0; {
		_, r, err := s.conn.NextReader()
		var n int64
		if err == nil {
			n, err = io.Copy(io.Discard, io.LimitReader(r, left))
		}
		if err != nil {
			s.drainRaw(err, left)
			return
		}
		left -= n + 1
	}
}

// drainRaw throws bytes away that cannot be read as frames: one was bad, or has no end.
func (s *Session) drainRaw(err error, left int64) {
	if _, isClose := errors.AsType[*websocket.CloseError](err); !isClose && !s.intake.broken {
		_, _ = io.Copy(io.Discard, io.LimitReader(s.raw, left))
	}
}
