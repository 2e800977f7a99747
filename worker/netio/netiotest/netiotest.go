// Package netiotest owns an in-memory twin of netio.UDP for tests.
//
// The twin behaves like a socket with an endless receive buffer: a Poller can
// wait for it. It starts no goroutine.
package netiotest

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/worker/netio"
)

// Packet is one datagram that the code under test sent.
type Packet struct {
	// To is its destination, From the address that it was to leave from.
	To   netip.AddrPort
	From netio.Local
	// Data is a copy of its payload.
	Data []byte
}

// UDP is an in-memory netio.UDP. Inject, Sent, Written and Block are for the
// test's goroutines, the rest for the code under test.
type UDP struct {
	addr     netip.AddrPort
	segments int
	own      int // polled by the code under test
	peer     int // what makes own readable, or not writable
	written  chan struct{}

	mu       sync.Mutex
	in       []netio.Message
	out      []Packet
	blocked  bool
	counters *netio.Counters
}

var _ netio.UDP = (*UDP)(nil)

// NewUDP returns a twin bound to addr. Its FD can be polled.
func NewUDP(addr netip.AddrPort, opts netio.UDPOptions) (*UDP, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	for _, fd := range pair {
		unix.CloseOnExec(fd)
		if err := unix.SetNonblock(fd, true); err != nil {
			return nil, errors.Join(fmt.Errorf("socketpair: %w", err), unix.Close(pair[0]), unix.Close(pair[1]))
		}
	}
	u := &UDP{addr: addr, segments: netio.MaxPackets, own: pair[0], peer: pair[1], written: make(chan struct{}, 1)}
	if opts.NoOffload {
		u.segments = 1
	}
	u.counters = opts.Counters
	if u.counters == nil {
		u.counters = &netio.Counters{}
	}
	return u, nil
}

// Inject makes a datagram arrive.
func (u *UDP) Inject(from netip.AddrPort, arrivalNanos int64, data []byte) {
	u.InjectAt(netio.LocalOf(u.addr.Addr()), from, arrivalNanos, data)
}

// InjectAt makes a datagram arrive that was sent to the given address.
func (u *UDP) InjectAt(local netio.Local, from netip.AddrPort, arrivalNanos int64, data []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.in = append(u.in, netio.Message{Buf: bytes.Clone(data), N: len(data), Addr: from, Local: local, ArrivalNanos: arrivalNanos})
	if len(u.in) == 1 {
		_, _ = unix.Write(u.peer, []byte{1})
	}
}

// Sent takes all packets written so far.
func (u *UDP) Sent() []Packet {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := u.out
	u.out = nil
	return out
}

// Written is signalled (capacity 1) after a write.
func (u *UDP) Written() <-chan struct{} { return u.written }

// Block makes writes end with netio.ErrWouldBlock until it is called with false.
func (u *UDP) Block(on bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.blocked = on
	var chunk [4096]byte
	for { // fill the socket's buffer, or empty it
		var err error
		if on {
			_, err = unix.Write(u.own, chunk[:])
		} else {
			_, err = unix.Read(u.peer, chunk[:])
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// FD is the descriptor to wait on.
func (u *UDP) FD() int { return u.own }

// LocalAddr is the address given to NewUDP.
func (u *UDP) LocalAddr() netip.AddrPort { return u.addr }

// MaxSegments is netio.MaxPackets, or 1 without offload.
func (u *UDP) MaxSegments() int { return u.segments }

// ReadBatch returns injected datagrams.
func (u *UDP) ReadBatch(ms []netio.Message) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	taken, n := 0, 0
	for taken < len(u.in) && n < min(len(ms), netio.MaxReceive) {
		in := &u.in[taken]
		taken++
		if in.N > len(ms[n].Buf) {
			u.counters.Truncated++
			continue
		}
		ms[n].N = copy(ms[n].Buf, in.Buf)
		ms[n].Addr, ms[n].Local, ms[n].ArrivalNanos = in.Addr, in.Local, in.ArrivalNanos
		u.counters.ReceivedPackets++
		u.counters.ReceivedBytes += uint64(in.N)
		n++
	}
	u.in = u.in[taken:]
	if taken > 0 && len(u.in) == 0 {
		var b [1]byte
		_, _ = unix.Read(u.own, b[:])
	}
	return n, nil
}

// WriteBatch keeps copies of all packets for Sent.
func (u *UDP) WriteBatch(ss []netio.Send) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.blocked {
		u.counters.WouldBlock++
		return 0, netio.ErrWouldBlock
	}
	for _, s := range ss {
		for _, p := range s.Packets {
			u.out = append(u.out, Packet{To: s.Addr, From: s.Local, Data: bytes.Clone(p)})
			u.counters.SentPackets++
			u.counters.SentBytes += uint64(len(p))
		}
	}
	select {
	case u.written <- struct{}{}:
	default:
	}
	return len(ss), nil
}

// Close closes the descriptors.
func (u *UDP) Close() error {
	return errors.Join(unix.Close(u.own), unix.Close(u.peer))
}
