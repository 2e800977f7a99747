//go:build unix

package netio

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

// Defaults of TCPOptions.
const (
	defaultMaxFrame   = 1500
	defaultQueueBytes = 16 << 10
	minQueueBytes     = 4 << 10
	maxFrameLimit     = 1<<16 - 1
)

// acceptTries bounds what one Accept looks at, refused connections included.
const acceptTries = 32

// TCPOptions bound the connections of a listener. A zero field takes its default. How
// many there may be is the caller's to decide.
type TCPOptions struct {
	// MaxFrame is the largest frame in bytes, either way; default 1500, at most
	// 65535.
	MaxFrame int
	// QueueBytes bounds what waits to be sent per connection; default 16 KiB,
	// at least 4 KiB and room for one frame. When it is full the oldest whole
	// frames are dropped and counted.
	QueueBytes int
	// Counters is where the listener and its connections count; nil: nowhere
	// the caller sees. It must not be shared between loops.
	Counters *TCPCounters
}

func (o *TCPOptions) setDefaults() {
	o.MaxFrame = min(cmp.Or(o.MaxFrame, defaultMaxFrame), maxFrameLimit)
	o.QueueBytes = max(cmp.Or(o.QueueBytes, defaultQueueBytes), minQueueBytes, frameHeader+o.MaxFrame)
	if o.Counters == nil {
		o.Counters = &TCPCounters{}
	}
}

// TCPCounters are counts of one listener with its connections. The media loop
// owns them.
type TCPCounters struct {
	// Accepted and Closed count connections.
	Accepted, Closed uint64
	// Refused counts connections closed at once for lack of a descriptor.
	Refused uint64
	// ReceivedFrames and ReceivedBytes count frames given to the caller, their
	// length fields left out.
	ReceivedFrames, ReceivedBytes uint64
	// SentFrames counts frames taken whole by the kernel, SentBytes all bytes.
	SentFrames, SentBytes uint64
	// DroppedFrames counts frames given up because the queue was full, or
	// because they exceed MaxFrame.
	DroppedFrames uint64
	// BadFrames counts connections that sent a length above MaxFrame.
	BadFrames uint64
}

// TCPListener accepts connections without blocking. It belongs to the media loop.
type TCPListener struct {
	fd      int
	spare   int // a descriptor to give up when there are none left, below 0: none
	local   netip.AddrPort
	opts    TCPOptions
	conns   int
	vec     sendVec
	poller  *Poller
	slot    int
	resting bool // the poller does not watch it
}

// NewTCPListener wraps a listening socket. It duplicates fd and makes it
// non-blocking; the caller keeps its own.
func NewTCPListener(fd int, opts TCPOptions) (*TCPListener, error) {
	opts.setDefaults()
	local, err := localAddr(fd)
	if err != nil {
		return nil, fmt.Errorf("address of tcp listener %d: %w", fd, err)
	}
	listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil || listening == 0 {
		return nil, fmt.Errorf("tcp socket %s does not listen: %w", local, errs.ErrInvalid)
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate tcp listener %s: %w", local, err)
	}
	if err := unix.SetNonblock(own, true); err != nil {
		return nil, errors.Join(fmt.Errorf("tcp listener %s: %w", local, err), unix.Close(own))
	}
	l := &TCPListener{fd: own, local: local, opts: opts}
	l.spare = l.openSpare()
	return l, nil
}

// LocalAddr is the bound address.
func (l *TCPListener) LocalAddr() netip.AddrPort { return l.local }

// Conns is how many connections are open.
func (l *TCPListener) Conns() int { return l.conns }

// Accept returns the next connection, nil and no error when there is none now.
// Without a free descriptor connections are closed and counted, a bounded number per
// call. After an error the listener stays readable: see Poller.WatchListener.
func (l *TCPListener) Accept(now int64) (*TCPConn, error) {
	for range acceptTries {
		fd, remote, err := sysAccept(l.fd)
		switch {
		case err == nil:
			if c := l.admit(fd, remote, now); c != nil {
				return c, nil
			}
		case errors.Is(err, unix.EAGAIN):
			return nil, nil //nolint:nilnil // documented: nothing to accept is no error
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
			if !l.refuseOne() {
				return nil, fmt.Errorf("accept on %s: %w", l.local, err)
			}
		case errors.Is(err, unix.EBADF), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOTSOCK):
			return nil, fmt.Errorf("accept on %s: %w", l.local, err)
		default:
			// The connection died before it was accepted (accept(2)): take the next.
		}
	}
	return nil, nil //nolint:nilnil // as above
}

// admit turns a descriptor into a connection, or closes it: nil.
func (l *TCPListener) admit(fd int, remote netip.AddrPort, now int64) *TCPConn {
	local, err := localAddr(fd)
	if err != nil { // gone already
		_ = unix.Close(fd)
		return nil
	}
	tuneConn(fd)
	l.conns++
	l.opts.Counters.Accepted++
	return &TCPConn{
		fd: fd, listener: l, source: sourceOf(remote.Addr()), remote: remote, local: local,
		active: now, framer: NewFramer(l.opts.MaxFrame),
	}
}

// refuseOne takes one waiting connection off the listener although there is no
// free descriptor, by giving up the spare one for a moment. Otherwise the
// listener would stay readable and the loop would spin.
func (l *TCPListener) refuseOne() bool {
	if l.spare < 0 { // somebody else was quicker last time
		if l.spare = l.openSpare(); l.spare < 0 {
			return false
		}
	}
	_ = unix.Close(l.spare)
	if fd, _, err := sysAccept(l.fd); err == nil {
		l.opts.Counters.Refused++
		_ = unix.Close(fd)
	}
	l.spare = l.openSpare()
	return true
}

func (l *TCPListener) openSpare() int {
	fd, err := unix.FcntlInt(uintptr(l.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}

// forget takes a closed connection out of the counts.
func (l *TCPListener) forget() {
	l.conns--
	l.opts.Counters.Closed++
}

// Close stops listening. Open connections stay open.
func (l *TCPListener) Close() error {
	if l.fd < 0 {
		return nil
	}
	if l.poller != nil {
		l.poller.removeListener(l)
	}
	if l.spare >= 0 {
		_ = unix.Close(l.spare)
		l.spare = -1
	}
	err := unix.Close(l.fd)
	l.fd = -1
	return err
}

// sourceOf is what a limit per address counts: an IPv6 host usually has a /64.
func sourceOf(addr netip.Addr) netip.Addr {
	const hostBits = 64
	if !addr.Is6() || addr.Is4In6() {
		return addr.Unmap()
	}
	prefix, err := addr.WithZone("").Prefix(hostBits)
	if err != nil {
		return addr
	}
	return prefix.Addr()
}

// tuneConn sets what is good for audio: no delay, and little unsent data in the
// kernel, where it can no longer be dropped. A refused option costs latency only.
func tuneConn(fd int) {
	const unsentBytes = 16 << 10
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentBytes)
}

// errClosed is what a closed connection returns.
func errClosed(remote netip.AddrPort) error {
	return fmt.Errorf("tcp connection of %s: %w", remote, net.ErrClosed)
}
