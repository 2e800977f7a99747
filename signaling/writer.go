package signaling

import (
	"time"

	"github.com/gorilla/websocket"

	"github.com/dspeak/sfu/signaling/wire"
)

// write is the only goroutine that writes to the socket. It ends with the
// socket's close frame.
func (s *Session) write() {
	heartbeat := time.NewTicker(s.limits.HeartbeatInterval)
	defer heartbeat.Stop()
	var frames []frame
	for {
		var end *ending
		frames, end = s.out.take(frames)
		for _, f := range frames {
			if err := s.writeFrame(f); err != nil {
				s.writeFailed(err)
				return
			}
		}
		if end != nil {
			s.writeClose(end)
			return
		}
		select {
		case <-s.out.wake:
		case <-heartbeat.C:
			if s.joined.Load() {
				s.Send(wire.PingMessage{Timestamp: time.Now().UnixMilli()})
			}
		}
	}
}

// writeFrame writes one frame within the write timeout and, once the socket
// ends, within the time for that; what need not be written any more is not.
func (s *Session) writeFrame(f frame) error {
	by := time.Now().Add(s.limits.WriteTimeout)
	if end := s.out.ended(); end != nil {
		if end.drop {
			return nil
		}
		if end.by.Before(by) {
			by = end.by
		}
	}
	if f.kind != websocket.TextMessage {
		return s.conn.WriteControl(f.kind, f.data, by)
	}
	if err := s.conn.SetWriteDeadline(by); err != nil {
		return err
	}
	return s.conn.WriteMessage(f.kind, f.data)
}

// writeFailed gives a connection up that takes nothing more.
func (s *Session) writeFailed(err error) {
	cause := wire.CloseCause{Cause: wire.CauseLost, Code: wire.CloseAbnormal}
	if timedOut(err) {
		cause = wire.CloseCause{Cause: wire.CauseSlow, Code: wire.CloseAbnormal, Reason: wire.ReasonWriteTimeout}
	}
	s.finish(cause, true)
	_ = s.conn.Close()
}

// writeClose sends the close frame and gives the client a moment for its own.
func (s *Session) writeClose(end *ending) {
	var data []byte
	if end.Code != wire.CloseNoStatus && end.Code != wire.CloseAbnormal {
		data = websocket.FormatCloseMessage(end.Code, end.Reason)
	}
	if end.Code == wire.CloseAbnormal || s.conn.WriteControl(websocket.CloseMessage, data, end.by) != nil {
		_ = s.conn.Close()
		return
	}
	s.awaitClose()
}
