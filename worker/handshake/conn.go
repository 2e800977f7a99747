package handshake

import (
	"bytes"
	"net"
	"os"
	"sync"
	"time"

	"github.com/pion/transport/v5/deadline"
)

// maxFlight bounds the datagrams kept of the last flight.
const maxFlight = 8

// fedConn is the packet connection under a handshake: it reads what the media
// loop feeds and writes through a callback. Read deadlines must work, because
// cancelling a handshake is done by setting one.
type fedConn struct {
	in       <-chan []byte
	deadline *deadline.Deadline
	closed   chan struct{}
	once     sync.Once

	mu     sync.Mutex // guards all below, and the order of sends
	send   func([]byte)
	muted  bool
	keep   bool // whether the last flight is ours
	hold   bool // whether it is kept only
	flight [][]byte
}

func newFedConn(in <-chan []byte, p Params) *fedConn {
	return &fedConn{
		in: in, deadline: deadline.New(), closed: make(chan struct{}), send: p.Send, keep: p.Role == Server, hold: p.HoldLast,
	}
}

// ReadFrom waits for the next fed datagram.
func (c *fedConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-c.in:
		return copy(b, p), peerAddr{}, nil
	case <-c.deadline.Done():
		return 0, nil, os.ErrDeadlineExceeded
	case <-c.closed:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo sends a datagram, unless the connection is muted, and keeps the
// flight that begins with our ChangeCipherSpec: in the server role it is the
// last of the whole handshake. A held one is not sent.
func (c *fedConn) WriteTo(b []byte, _ net.Addr) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.muted {
		return len(b), nil
	}
	if c.keep {
		if holds(b, typeChangeCipherSpec, 0) {
			c.flight = nil
		}
		if (len(c.flight) > 0 && len(c.flight) < maxFlight) || holds(b, typeChangeCipherSpec, 0) {
			c.flight = append(c.flight, bytes.Clone(b))
		}
		if c.hold && len(c.flight) > 0 {
			return len(b), nil
		}
	}
	c.send(b)
	return len(b), nil
}

// mute swallows all later writes: the close_notify of our own clean-up must not
// reach the peer, and nothing may be sent behind a state that is exported.
func (c *fedConn) mute() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.muted = true
}

// lastFlight returns what is to be repeated when the peer repeats its flight.
func (c *fedConn) lastFlight() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flight
}

func (c *fedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *fedConn) LocalAddr() net.Addr { return peerAddr{} }

func (c *fedConn) SetReadDeadline(t time.Time) error {
	c.deadline.Set(t)
	return nil
}

func (c *fedConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline does nothing: writes do not block.
func (*fedConn) SetWriteDeadline(time.Time) error { return nil }

// peerAddr stands for the peer: the media loop alone knows its address.
type peerAddr struct{}

func (peerAddr) Network() string { return "fed" }
func (peerAddr) String() string  { return "peer" }
