package netio

import (
	"errors"
	"time"
)

// Ready says what Wait found.
type Ready struct {
	// Woken: Wake was called.
	Woken bool
	// TCP: TCPEvents has something.
	TCP bool
	// Readable and Writable have bit i set for the UDP socket with index i.
	Readable, Writable uint32
}

// TCPEvent is readiness of one listener or one connection; the other is nil.
type TCPEvent struct {
	Listener *TCPListener
	Conn     *TCPConn
	// Readable also stands for hang-up and error: reading tells.
	Readable, Writable bool
}

// Poller waits for the loop's sockets. All methods but Wake belong to the media loop.
type Poller struct{}

// NewPoller opens a poller.
func NewPoller() (*Poller, error) { return nil, errors.ErrUnsupported }

// AddUDP adds a socket and returns its index: 0, 1, 2, …, at most 31.
func (p *Poller) AddUDP(u UDP) (index int, err error) { return 0, nil }

// WatchWrite says whether Wait also waits until the UDP socket is writable.
func (p *Poller) WatchWrite(index int, on bool) {}

// AddListener adds a listener. Its Close takes it out.
func (p *Poller) AddListener(l *TCPListener) error { return nil }

// AddConn adds a connection. Its Close takes it out. Writing is watched by itself while frames are queued.
func (p *Poller) AddConn(c *TCPConn) error { return nil }

// Wait blocks the thread until something is ready, Wake is called, the timeout
// is over (below 0: no limit) or a signal arrives; the last two are no error and an empty Ready.
func (p *Poller) Wait(timeout time.Duration) (Ready, error) { return Ready{}, nil }

// TCPEvents returns what is ready among listeners and connections, a bounded number; the slice is valid until
// the next call. A connection that the caller closed meanwhile may still be in it.
func (p *Poller) TCPEvents() ([]TCPEvent, error) { return nil, nil }

// Wake ends the current or next Wait. Any goroutine; many calls cost one write.
func (p *Poller) Wake() {}

// Close releases the descriptors. No Wake may follow.
func (p *Poller) Close() error { return nil }
