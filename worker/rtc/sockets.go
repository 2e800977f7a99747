package rtc

import (
	"errors"
	"log/slog"

	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/worker/netio"
)

// SocketCounters are where the media sockets count. The loop owns them from New on.
type SocketCounters struct {
	UDP []*netio.Counters // asides included
	TCP []*netio.TCPCounters
}

// socketWatch is what the loop knows of its sockets' counts.
type socketWatch struct {
	counters *SocketCounters // nil: the sockets count elsewhere
	logged   SocketStats     // as of the last line
}

// socketStats sums the sockets' counts up.
func (l *Loop) socketStats() SocketStats {
	var s SocketStats
	for i, port := range l.udp {
		if n := port.sock.MaxSegments(); i == 0 || n < s.MaxSegments {
			s.MaxSegments = n
		}
	}
	s.TCPRefused = l.peers.refused
	c := l.sockets.counters
	if c == nil {
		return s
	}
	for _, u := range c.UDP {
		s.BytesReceived += u.ReceivedBytes
		s.BytesSent += u.SentBytes
		s.KernelDrops += uint64(u.KernelDrops)
		s.Truncated += u.Truncated
		s.Refused += u.Refused
		s.WouldBlock += u.WouldBlock
		s.SegmentationRefused += u.OffloadDropped
	}
	for _, t := range c.TCP {
		s.BytesReceived += t.ReceivedBytes
		s.BytesSent += t.SentBytes
		s.TCPRefused += t.Refused
		s.TCPDropped += t.DroppedFrames
		s.TCPBadFrames += t.BadFrames
	}
	return s
}

// logSocketFaults logs what moved since the last line, by cause.
func (l *Loop) logSocketFaults() {
	now, was := l.socketStats(), l.sockets.logged
	l.sockets.logged = now
	was.BytesReceived, was.BytesSent = now.BytesReceived, now.BytesSent // no faults
	if now == was {
		return
	}
	if now.SegmentationRefused != was.SegmentationRefused {
		l.log.Warn("the kernel refuses UDP segmentation, packets leave one by one", obs.Err(l.sockets.lastError()))
	}
	l.log.Debug("media sockets",
		slog.Uint64("kernel_drops", now.KernelDrops-was.KernelDrops),
		slog.Uint64("truncated", now.Truncated-was.Truncated),
		slog.Uint64("refused", now.Refused-was.Refused),
		slog.Uint64("would_block", now.WouldBlock-was.WouldBlock),
		slog.Uint64("tcp_refused", now.TCPRefused-was.TCPRefused),
		slog.Uint64("tcp_dropped", now.TCPDropped-was.TCPDropped),
		slog.Uint64("tcp_bad_frames", now.TCPBadFrames-was.TCPBadFrames))
}

// lastError is a refusal of the kernel; nil: none.
func (w *socketWatch) lastError() error {
	for _, u := range w.counters.UDP {
		if u.LastError != nil {
			return u.LastError
		}
	}
	return nil
}

// close closes both sockets of a port.
func (p *udpPort) close() error {
	if p.aside == nil {
		return p.sock.Close()
	}
	return errors.Join(p.aside.Close(), p.sock.Close())
}
