package signaling

import (
	"net"
	"time"

	"github.com/gorilla/websocket"

	"github.com/dspeak/sfu/signaling/wire"
)

const (
	// batchBytes is how much of small messages goes into one write.
	batchBytes = 16 << 10
	// copyBytes is the size up to which a message counts as small.
	copyBytes = 4 << 10
	// collectFor is how long after a write patient messages wait for others.
	collectFor = 50 * time.Millisecond
	// writeBytes bounds one write, for which the client has the write timeout.
	writeBytes = 64 << 10
)

// write is the only goroutine that writes messages. It ends with the socket's close
// frame. What waits together leaves in one system call.
func (s *Session) write() {
	heartbeat := time.NewTicker(s.limits.HeartbeatInterval)
	defer heartbeat.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	var frames []frame
	for {
		var end *ending
		frames, end = s.out.take(frames)
		if err := s.writeFrames(frames); err != nil {
			s.writeFailed(err)
			return
		}
		if end != nil {
			s.writeClose(end)
			return
		}
		select {
		case <-s.out.wake:
			s.collect(pause)
		case <-heartbeat.C:
			if s.joined.Load() {
				s.Send(wire.PingMessage{Timestamp: time.Now().UnixMilli()})
			}
		}
	}
}

// collect lets patient messages wait for others until collectFor after the last write.
// Any other message ends the wait.
func (s *Session) collect(pause *time.Timer) {
	for s.out.collect() {
		left := collectFor - time.Since(s.wrote)
		if left <= 0 {
			return
		}
		pause.Reset(left)
		select {
		case <-pause.C:
		case <-s.out.wake:
		}
	}
}

// writeFrames writes frames in as few system calls as are needed, and drops what is
// left once the socket is to end without it.
func (s *Session) writeFrames(frames []frame) error {
	if len(frames) == 0 {
		return nil
	}
	scratch, _ := s.server.buffers.Get().(*[]byte) // newBatch's
	defer s.server.buffers.Put(scratch)
	batch := (*scratch)[:0]
	for _, f := range frames {
		first, payload := f.payload(s.deflater)
		batch = appendHeader(batch, first, len(payload))
		if len(payload) <= copyBytes {
			batch = append(batch, payload...)
			payload = nil
		}
		if payload == nil && len(batch) < batchBytes {
			continue
		}
		if err := s.writeParts(batch, payload); err != nil {
			return err
		}
		batch = batch[:0]
	}
	return s.writeParts(batch, nil)
}

// newBatch makes a buffer for a writer.
func newBatch() any {
	b := make([]byte, 0, batchBytes+copyBytes+maxHeader)
	return &b
}

// writeParts writes a batch and the payload that follows it, or neither once the socket
// is to end without them. What has begun is written whole: a client would take a close
// frame in its middle for a part of it.
func (s *Session) writeParts(batch, payload []byte) error {
	s.wrote = time.Now()
	for begun := false; len(batch)+len(payload) > 0; begun = true {
		dropped, err := s.extendWrite()
		if err != nil || dropped && !begun {
			return err
		}
		part := payload[:min(len(payload), writeBytes)]
		payload = payload[len(part):]
		switch {
		case len(part) == 0:
			_, err = s.raw.Write(batch)
		case len(batch) == 0:
			_, err = s.raw.Write(part)
		default:
			err = s.writeBuffers(net.Buffers{batch, part})
		}
		if err != nil {
			return err
		}
		batch = nil
	}
	return nil
}

// BuffersWriter is implemented by connections around another one. net.Buffers writes to
// the net package's own connections in one system call, and else in one for each buffer.
type BuffersWriter interface {
	WriteBuffers(parts net.Buffers) error
}

func (s *Session) writeBuffers(parts net.Buffers) error {
	if w, ok := s.raw.(BuffersWriter); ok {
		return w.WriteBuffers(parts)
	}
	_, err := parts.WriteTo(s.raw)
	return err
}

// extendWrite gives the next write the write timeout and, once the socket ends, the
// time for that. dropped: nothing is to be written any more.
func (s *Session) extendWrite() (dropped bool, err error) {
	by := time.Now().Add(s.limits.WriteTimeout)
	if by.Sub(s.writeBy) > s.limits.WriteTimeout/4 { // moving it costs as much as a small write
		s.writeBy = by
		if err := s.raw.SetWriteDeadline(by); err != nil {
			return false, err
		}
	}
	end := s.out.ended()
	if end == nil {
		return false, nil
	}
	if end.by.Before(by) {
		err = s.raw.SetWriteDeadline(end.by)
	}
	return end.drop, err
}

// writeFailed gives a connection up that takes nothing more.
func (s *Session) writeFailed(err error) {
	cause := wire.CloseCause{Cause: wire.CauseLost, Code: wire.CloseAbnormal}
	if timedOut(err) {
		cause = wire.CloseCause{Cause: wire.CauseSlow, Code: wire.CloseAbnormal, Reason: wire.ReasonWriteTimeout}
	}
	s.finish(cause, true)
	_ = s.raw.Close()
}

// writeClose sends the close frame and gives the client a moment for its own.
func (s *Session) writeClose(end *ending) {
	var data []byte
	if end.Code != wire.CloseNoStatus && end.Code != wire.CloseAbnormal {
		data = websocket.FormatCloseMessage(end.Code, end.Reason)
	}
	if end.Code == wire.CloseAbnormal || s.writeControl(websocket.CloseMessage, data, end.by) != nil {
		_ = s.raw.Close()
		return
	}
	s.awaitClose()
}

// writeControl writes one control frame.
func (s *Session) writeControl(opcode byte, data []byte, by time.Time) error {
	if err := s.raw.SetWriteDeadline(by); err != nil {
		return err
	}
	_, err := s.raw.Write(append(appendHeader(nil, final|opcode, len(data)), data...))
	return err
}
