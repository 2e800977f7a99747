//go:build unix && !linux

package netio

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

// Poller waits for the loop's sockets. All methods but Wake belong to the media loop.
type Poller struct {
	udp       []unix.PollFd
	listeners []*TCPListener
	conns     []*TCPConn
	wake      [2]int // a pipe: read end, write end
	fds       []unix.PollFd
	ready     []TCPEvent
	pending   atomic.Bool

	mu     sync.Mutex
	closed bool // guarded by mu
}

// NewPoller opens a poller.
func NewPoller() (*Poller, error) {
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	for _, fd := range pipe {
		unix.CloseOnExec(fd)
		if err := unix.SetNonblock(fd, true); err != nil {
			return nil, errors.Join(fmt.Errorf("pipe: %w", err), unix.Close(pipe[0]), unix.Close(pipe[1]))
		}
	}
	return &Poller{wake: pipe}, nil
}

// AddUDP adds a socket and returns its index: 0, 1, 2, …, at most 31. More is an
// errs.ErrExhausted. Sockets stay until the Poller is closed.
func (p *Poller) AddUDP(u UDP) (index int, err error) {
	if len(p.udp) == maxUDP {
		return 0, fmt.Errorf("poller has %d udp sockets: %w", maxUDP, errs.ErrExhausted)
	}
	p.udp = append(p.udp, unix.PollFd{Fd: int32(u.FD()), Events: unix.POLLIN})
	return len(p.udp) - 1, nil
}

// WatchWrite says whether Wait also waits until the UDP socket is writable.
func (p *Poller) WatchWrite(index int, on bool) {
	if index < 0 || index >= len(p.udp) {
		return
	}
	p.udp[index].Events = unix.POLLIN
	if on {
		p.udp[index].Events |= unix.POLLOUT
	}
}

// Wait blocks until something is ready, Wake is called, the timeout is over
// (below 0: no limit) or a signal arrives; the last two are no error and an
// empty Ready.
func (p *Poller) Wait(timeout time.Duration) (Ready, error) {
	p.fds = append(p.fds[:0], unix.PollFd{Fd: int32(p.wake[0]), Events: unix.POLLIN})
	p.fds = append(p.fds, p.udp...)
	p.fds = p.appendTCP(p.fds)
	ms := -1
	if timeout >= 0 {
		ms = int((timeout + time.Millisecond - 1) / time.Millisecond)
	}
	n, err := unix.Poll(p.fds, ms)
	if errors.Is(err, unix.EINTR) || (err == nil && n == 0) {
		return Ready{}, nil
	}
	if err != nil {
		return Ready{}, fmt.Errorf("poll: %w", err)
	}
	var r Ready
	if p.fds[0].Revents != 0 {
		var b [8]byte
		_, _ = unix.Read(p.wake[0], b[:])
		p.pending.Store(false)
		r.Woken = true
	}
	for i := range p.fds[1:] {
		events := p.fds[1+i].Revents
		switch {
		case i >= len(p.udp):
			r.TCP = r.TCP || events != 0
			continue
		case events&(unix.POLLIN|unix.POLLERR|unix.POLLHUP) != 0:
			r.Readable |= 1 << i
		}
		if events&unix.POLLOUT != 0 {
			r.Writable |= 1 << i
		}
	}
	return r, nil
}

// appendTCP adds listeners and connections, in that order.
func (p *Poller) appendTCP(fds []unix.PollFd) []unix.PollFd {
	for _, l := range p.listeners {
		fd := unix.PollFd{Fd: int32(l.fd), Events: unix.POLLIN}
		if l.resting {
			fd.Fd = -1
		}
		fds = append(fds, fd)
	}
	for _, c := range p.conns {
		events := int16(unix.POLLIN)
		if c.queue.len() > 0 {
			events |= unix.POLLOUT
		}
		fds = append(fds, unix.PollFd{Fd: int32(c.fd), Events: events})
	}
	return fds
}

// TCPEvents returns what is ready among listeners and connections, at most 64;
// what is left is reported by the next call. The slice is valid until then. A
// connection that the caller closed meanwhile may still be in it.
func (p *Poller) TCPEvents() ([]TCPEvent, error) {
	fds := p.appendTCP(nil)
	if _, err := unix.Poll(fds, 0); err != nil && !errors.Is(err, unix.EINTR) {
		return nil, fmt.Errorf("poll: %w", err)
	}
	p.ready = p.ready[:0]
	for i, fd := range fds {
		if fd.Revents == 0 || len(p.ready) == maxTCPEvents {
			continue
		}
		e := TCPEvent{Readable: fd.Revents&^unix.POLLOUT != 0, Writable: fd.Revents&unix.POLLOUT != 0}
		if i < len(p.listeners) {
			e.Listener = p.listeners[i]
		} else {
			e.Conn = p.conns[i-len(p.listeners)]
		}
		p.ready = append(p.ready, e)
	}
	return p.ready, nil
}

// AddAside is AddUDP.
func (p *Poller) AddAside(u UDP) (index int, err error) { return p.AddUDP(u) }

// Rest is Wait.
func (p *Poller) Rest(timeout time.Duration) (Ready, error) { return p.Wait(timeout) }

// Wake ends the current or next Wait. Any goroutine; many calls cost one write.
// After Close it does nothing.
func (p *Poller) Wake() {
	if !p.pending.CompareAndSwap(false, true) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		_, _ = unix.Write(p.wake[1], []byte{1})
	}
}

// AddListener adds a listener. Its Close takes it out.
func (p *Poller) AddListener(l *TCPListener) error {
	p.listeners = append(p.listeners, l)
	l.poller = p
	return nil
}

// WatchListener says whether Wait and TCPEvents tell of the listener. One that cannot be
// accepted from stays readable, and would make every Wait return at once.
func (*Poller) WatchListener(l *TCPListener, on bool) error {
	l.resting = !on
	return nil
}

// AddConn adds a connection. Its Close takes it out. Writing is watched by
// itself while frames are queued.
func (p *Poller) AddConn(c *TCPConn) error {
	p.conns = append(p.conns, c)
	c.poller = p
	return nil
}

// watchConnWrite has nothing to do: Wait looks at the queues.
func (*Poller) watchConnWrite(*TCPConn, bool) {}

func (p *Poller) removeConn(c *TCPConn) {
	p.conns = slices.DeleteFunc(p.conns, func(other *TCPConn) bool { return other == c })
	c.poller = nil
}

func (p *Poller) removeListener(l *TCPListener) {
	p.listeners = slices.DeleteFunc(p.listeners, func(other *TCPListener) bool { return other == l })
	l.poller = nil
}

// Close releases the descriptors; a second call does nothing.
func (p *Poller) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	return errors.Join(unix.Close(p.wake[0]), unix.Close(p.wake[1]))
}
