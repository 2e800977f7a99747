//go:build unix && !linux

package netio

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// udpSocket is the plain UDP: one call a datagram, no offload, no timestamps.
type udpSocket struct {
	fd       int
	ipv6     bool
	local    netip.AddrPort
	counters *Counters
}

// NewUDP wraps a bound UDP socket. It duplicates fd; the caller keeps its own.
// An unbound or foreign descriptor is an error.
func NewUDP(fd int, opts UDPOptions) (UDP, error) {
	local, err := localAddr(fd)
	if err != nil {
		return nil, fmt.Errorf("address of udp socket %d: %w", fd, err)
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate udp socket %s: %w", local, err)
	}
	if err := unix.SetNonblock(own, true); err != nil {
		return nil, errors.Join(fmt.Errorf("udp socket %s: %w", local, err), unix.Close(own))
	}
	u := &udpSocket{fd: own, ipv6: local.Addr().Is6(), local: local, counters: opts.Counters}
	if u.counters == nil {
		u.counters = &Counters{}
	}
	return u, nil
}

func (u *udpSocket) FD() int                   { return u.fd }
func (u *udpSocket) LocalAddr() netip.AddrPort { return u.local }
func (*udpSocket) MaxSegments() int            { return 1 }

func (u *udpSocket) Close() error {
	if u.fd < 0 {
		return nil
	}
	err := unix.Close(u.fd)
	u.fd = -1
	return err
}

func (u *udpSocket) ReadBatch(ms []Message) (int, error) {
	for i := range ms {
		n, from, err := unix.Recvfrom(u.fd, ms[i].Buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNREFUSED) {
			return i, nil
		}
		if err != nil {
			return i, fmt.Errorf("receive on %s: %w", u.local, err)
		}
		addr, _ := fromSockaddr(from)
		ms[i].N, ms[i].Addr, ms[i].Local, ms[i].ArrivalNanos = n, addr, Local{}, 0
		u.counters.ReceivedPackets++
		u.counters.ReceivedBytes += uint64(n)
	}
	return len(ms), nil
}

func (u *udpSocket) WriteBatch(ss []Send) (int, error) {
	for i := range ss {
		to := sockaddr(ss[i].Addr)
		for k, p := range ss[i].Packets {
			switch err := unix.Sendto(u.fd, p, 0, to); {
			case errors.Is(err, unix.EAGAIN):
				u.counters.WouldBlock++
				ss[i].Packets = ss[i].Packets[k:]
				return i, ErrWouldBlock
			case err != nil:
				u.counters.Refused++
				u.counters.LastError = err
			default:
				u.counters.SentPackets++
				u.counters.SentBytes += uint64(len(p))
			}
		}
	}
	return len(ss), nil
}

func sockaddr(to netip.AddrPort) unix.Sockaddr {
	if to.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
}
