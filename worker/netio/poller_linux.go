package netio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

// Places of the poll set before the UDP sockets.
const (
	pollWake = iota
	pollTCP
	pollUDP
)

// Poller waits for the loop's sockets. All methods but Wake belong to the media
// loop. Wait is one ppoll by a raw system call: it blocks its thread, and the Go
// runtime does not know, so the loop's goroutine must be locked to a thread and
// GOMAXPROCS must leave a processor for everything else.
type Poller struct {
	fds  [pollUDP + maxUDP]unix.PollFd
	n    int
	spec unix.Timespec // on the heap with the Poller: the kernel writes to it

	slots  []TCPEvent // by epoll token; the flags are unused
	free   []int32
	events [maxTCPEvents]unix.EpollEvent
	ready  [maxTCPEvents]TCPEvent

	pending atomic.Bool // a Wake that Wait has not taken yet
	asides  []int       // in fds

	mu     sync.Mutex
	closed bool // guarded by mu: no write to a descriptor that is closed, or reused
}

// NewPoller opens a poller.
func NewPoller() (*Poller, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	tcp, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("epoll_create: %w", err), unix.Close(wake))
	}
	p := &Poller{n: pollUDP}
	p.fds[pollWake] = unix.PollFd{Fd: int32(wake), Events: unix.POLLIN}
	p.fds[pollTCP] = unix.PollFd{Fd: int32(tcp), Events: unix.POLLIN}
	return p, nil
}

// AddUDP adds a socket and returns its index: 0, 1, 2, …, at most 31. More is an
// errs.ErrExhausted. Sockets stay until the Poller is closed.
func (p *Poller) AddUDP(u UDP) (index int, err error) {
	if p.n == len(p.fds) {
		return 0, fmt.Errorf("poller has %d udp sockets: %w", maxUDP, errs.ErrExhausted)
	}
	p.fds[p.n] = unix.PollFd{Fd: int32(u.FD()), Events: unix.POLLIN}
	p.n++
	return p.n - 1 - pollUDP, nil
}

// AddAside is AddUDP for a socket that does not end a Rest.
func (p *Poller) AddAside(u UDP) (index int, err error) {
	if index, err = p.AddUDP(u); err == nil {
		p.asides = append(p.asides, pollUDP+index)
	}
	return index, err
}

// WatchWrite says whether Wait also waits until the UDP socket is writable.
func (p *Poller) WatchWrite(index int, on bool) {
	if index < 0 || pollUDP+index >= p.n {
		return
	}
	p.fds[pollUDP+index].Events = unix.POLLIN
	if on {
		p.fds[pollUDP+index].Events |= unix.POLLOUT
	}
}

// Wait blocks the thread until something is ready, Wake is called, the timeout
// is over (below 0: no limit) or a signal arrives; the last two are no error and
// an empty Ready. Go's own signals make early returns normal.
func (p *Poller) Wait(timeout time.Duration) (Ready, error) {
	var spec unsafe.Pointer
	if timeout >= 0 {
		p.spec = unix.NsecToTimespec(int64(timeout))
		spec = unsafe.Pointer(&p.spec)
	}
	n, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p.fds[0])), uintptr(p.n),
		uintptr(spec), 0, 0, 0)
	runtime.KeepAlive(p)
	if errno == unix.EINTR || (errno == 0 && n == 0) {
		return Ready{}, nil
	}
	if errno != 0 {
		return Ready{}, fmt.Errorf("ppoll: %w", errno)
	}
	return p.collect(), nil
}

// Rest is Wait for all but asides, of which it tells nothing.
func (p *Poller) Rest(timeout time.Duration) (Ready, error) {
	p.turnAsides()
	defer p.turnAsides()
	return p.Wait(timeout)
}

// turnAsides takes the asides out of the poll set, or back: what is below 0 is passed over.
func (p *Poller) turnAsides() {
	for _, i := range p.asides {
		p.fds[i].Fd = ^p.fds[i].Fd
	}
}

// collect reads the poll set after a successful ppoll.
func (p *Poller) collect() Ready {
	var r Ready
	if p.fds[pollWake].Revents != 0 {
		p.takeWake()
		r.Woken = true
	}
	r.TCP = p.fds[pollTCP].Revents != 0
	for i := pollUDP; i < p.n; i++ {
		bit := uint32(1) << (i - pollUDP)
		events := p.fds[i].Revents
		// An error is told by reading.
		if events&(unix.POLLIN|unix.POLLERR|unix.POLLHUP) != 0 {
			r.Readable |= bit
		}
		if events&unix.POLLOUT != 0 {
			r.Writable |= bit
		}
	}
	return r
}

// takeWake empties the eventfd first: a Wake in between finds the flag set and
// writes nothing, but its caller's work is seen by this very return of Wait.
func (p *Poller) takeWake() {
	var count uint64
	_, _, _ = syscall.RawSyscall6(unix.SYS_READ, uintptr(p.fds[pollWake].Fd),
		uintptr(unsafe.Pointer(&count)), unsafe.Sizeof(count), 0, 0, 0)
	p.pending.Store(false)
}

// Wake ends the current or next Wait. Any goroutine; many calls cost one write.
// After Close it does nothing.
func (p *Poller) Wake() {
	if !p.pending.CompareAndSwap(false, true) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	// It cannot fail: the counter is emptied before the flag is cleared.
	_, _ = unix.Write(int(p.fds[pollWake].Fd), one[:])
}

// AddListener adds a listener. Its Close takes it out.
func (p *Poller) AddListener(l *TCPListener) error {
	slot, err := p.add(l.fd, TCPEvent{Listener: l}, unix.EPOLLIN)
	if err != nil {
		return fmt.Errorf("watch tcp listener %s: %w", l.local, err)
	}
	l.poller, l.slot = p, slot
	return nil
}

// WatchListener says whether Wait and TCPEvents tell of the listener. One that cannot be
// accepted from stays readable, and would make every Wait return at once.
func (p *Poller) WatchListener(l *TCPListener, on bool) error {
	if l.poller != p || l.resting == !on {
		return nil
	}
	e := unix.EpollEvent{Fd: int32(l.slot)}
	if on {
		e.Events = unix.EPOLLIN
	}
	if err := unix.EpollCtl(int(p.fds[pollTCP].Fd), unix.EPOLL_CTL_MOD, l.fd, &e); err != nil {
		return fmt.Errorf("watch tcp listener %s: %w", l.local, err)
	}
	l.resting = !on
	return nil
}

// AddConn adds a connection. Its Close takes it out. Writing is watched by
// itself while frames are queued.
func (p *Poller) AddConn(c *TCPConn) error {
	events := uint32(unix.EPOLLIN | unix.EPOLLRDHUP)
	if c.queue.len() > 0 {
		events |= unix.EPOLLOUT
	}
	slot, err := p.add(c.fd, TCPEvent{Conn: c}, events)
	if err != nil {
		return fmt.Errorf("watch tcp connection of %s: %w", c.remote, err)
	}
	c.poller, c.slot = p, slot
	return nil
}

func (p *Poller) add(fd int, who TCPEvent, events uint32) (int, error) {
	if len(p.free) == 0 {
		p.slots = append(p.slots, TCPEvent{})
		p.free = append(p.free, int32(len(p.slots)-1))
	}
	slot := p.free[len(p.free)-1]
	e := unix.EpollEvent{Events: events, Fd: slot}
	if err := unix.EpollCtl(int(p.fds[pollTCP].Fd), unix.EPOLL_CTL_ADD, fd, &e); err != nil {
		return 0, err
	}
	p.free = p.free[:len(p.free)-1]
	p.slots[slot] = who
	return int(slot), nil
}

func (p *Poller) watchConnWrite(c *TCPConn, on bool) {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(c.slot)}
	if on {
		e.Events |= unix.EPOLLOUT
	}
	// It can fail for a descriptor that is not registered only, and this one is.
	_ = unix.EpollCtl(int(p.fds[pollTCP].Fd), unix.EPOLL_CTL_MOD, c.fd, &e)
}

func (p *Poller) removeConn(c *TCPConn) {
	p.remove(c.fd, c.slot)
	c.poller = nil
}

func (p *Poller) removeListener(l *TCPListener) {
	p.remove(l.fd, l.slot)
	l.poller = nil
}

// remove is needed before a close: another process may hold the same socket
// open, and then epoll would go on reporting it.
func (p *Poller) remove(fd, slot int) {
	_ = unix.EpollCtl(int(p.fds[pollTCP].Fd), unix.EPOLL_CTL_DEL, fd, nil)
	p.slots[slot] = TCPEvent{}
	p.free = append(p.free, int32(slot))
}

// TCPEvents returns what is ready among listeners and connections, at most 64;
// what is left is reported by the next call. The slice is valid until then. A
// connection that the caller closed meanwhile may still be in it.
func (p *Poller) TCPEvents() ([]TCPEvent, error) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fds[pollTCP].Fd),
		uintptr(unsafe.Pointer(&p.events[0])), maxTCPEvents, 0, 0, 0)
	if errno == unix.EINTR {
		return nil, nil
	}
	if errno != 0 {
		return nil, fmt.Errorf("epoll_wait: %w", errno)
	}
	out := p.ready[:0]
	for _, e := range p.events[:n] {
		who := p.slots[e.Fd]
		if who.Listener == nil && who.Conn == nil {
			continue
		}
		who.Readable = e.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
		who.Writable = e.Events&unix.EPOLLOUT != 0
		out = append(out, who)
	}
	return out, nil
}

// Close releases the descriptors; a second call does nothing.
func (p *Poller) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	return errors.Join(unix.Close(int(p.fds[pollWake].Fd)), unix.Close(int(p.fds[pollTCP].Fd)))
}
