package netio

import (
	"errors"
	"net/netip"
)

// TCPOptions bound a listener. A zero field takes its default.
type TCPOptions struct {
	// MaxConns is how many connections are open at once; default 4096.
	MaxConns int
	// MaxConnsPerAddr is the same for one IPv4 address or one IPv6 /64;
	// default 64.
	MaxConnsPerAddr int
	// MaxFrame is the largest frame in bytes, either way; default 1500.
	MaxFrame int
	// QueueBytes bounds what waits to be sent per connection; default 32 KiB.
	// When it is full the oldest whole frames are dropped and counted.
	QueueBytes int
	// Counters is where the listener and its connections count; nil: nowhere
	// the caller sees.
	Counters *TCPCounters
}

// TCPCounters are counts of one listener with its connections. The media loop
// owns them.
type TCPCounters struct {
	Accepted, Closed              uint64
	RefusedTotal, RefusedPerAddr  uint64
	ReceivedFrames, ReceivedBytes uint64
	SentFrames, SentBytes         uint64
	DroppedFrames                 uint64
	BadFrames                     uint64
}

// TCPListener accepts connections without blocking. It belongs to the media loop.
type TCPListener struct{}

// NewTCPListener wraps a listening socket. It duplicates fd; the caller keeps its own.
func NewTCPListener(fd int, opts TCPOptions) (*TCPListener, error) {
	return nil, errors.ErrUnsupported
}

// Accept returns the next connection, nil and no error when there is none now.
// Connections over a limit are closed and counted, a bounded number per call.
func (l *TCPListener) Accept(now int64) (*TCPConn, error) { return nil, nil }

// LocalAddr is the bound address.
func (l *TCPListener) LocalAddr() netip.AddrPort { return netip.AddrPort{} }

// Conns is how many connections are open.
func (l *TCPListener) Conns() int { return 0 }

// Close stops listening. Open connections stay open.
func (l *TCPListener) Close() error { return nil }

// TCPConn is one accepted connection that carries RFC 4571 frames. It belongs
// to the media loop.
type TCPConn struct {
	// Owner is for the caller alone: what it keeps per connection.
	Owner any
}

// ReadFrames reads what is there, at most 64 KiB a call, and calls fn for every whole frame; the
// frame is valid during the call. now (nanoseconds) is remembered as the time of activity when anything was read.
// io.EOF: the peer closed. Any error means that the caller must Close. fn may close c.
func (c *TCPConn) ReadFrames(now int64, fn func(c *TCPConn, frame []byte)) error { return nil }

// WriteFrames sends the packets, one frame each, or queues what the socket does not take now.
// A full queue drops the oldest frames and counts them. An error means that the caller must Close.
func (c *TCPConn) WriteFrames(packets [][]byte) error { return nil }

// WriteFrame is WriteFrames for one packet.
func (c *TCPConn) WriteFrame(packet []byte) error { return nil }

// Flush sends queued frames; call it when the connection is writable.
func (c *TCPConn) Flush() error { return nil }

// Queued is how many bytes wait to be sent.
func (c *TCPConn) Queued() int { return 0 }

// RemoteAddr is the peer's address.
func (c *TCPConn) RemoteAddr() netip.AddrPort { return netip.AddrPort{} }

// LocalAddr is the address that the peer connected to.
func (c *TCPConn) LocalAddr() netip.AddrPort { return netip.AddrPort{} }

// LastActive is the now of the last successful read, or of Accept.
func (c *TCPConn) LastActive() int64 { return 0 }

// Closed reports whether Close was called.
func (c *TCPConn) Closed() bool { return false }

// Close closes the connection and takes it out of its Poller; repeated calls do nothing.
func (c *TCPConn) Close() error { return nil }
