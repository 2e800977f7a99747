package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

// mmsghdr is the kernel's struct of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

// receiveBuffer is what a receiving socket may hold, in bytes: a stall of the
// receiving thread must not show as loss of the server.
const receiveBuffer = 4 << 20

// sockaddr returns the address family and the address for the system calls.
func sockaddr(a netip.AddrPort) (int, unix.Sockaddr) {
	if a.Addr().Is6() && !a.Addr().Is4In6() {
		return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	}
	return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().Unmap().As4()}
}

// openUDP returns a UDP socket bound to the address, with the flags of socket(2).
func openUDP(bind netip.AddrPort, flags int) (int, error) {
	domain, address := sockaddr(bind)
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		return -1, fmt.Errorf("open UDP socket: %w", err)
	}
	if err := unix.Bind(fd, address); err != nil {
		return -1, errors.Join(fmt.Errorf("bind UDP socket to %s: %w", bind, err), unix.Close(fd))
	}
	return fd, nil
}

// dialUDP returns a non-blocking UDP socket connected to the address, with
// kernel arrival times.
func dialUDP(to netip.AddrPort) (int, error) {
	domain, address := sockaddr(to)
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open UDP socket: %w", err)
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err == nil {
		// Without the capability the kernel's usual size has to do; drops are told.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
		err = unix.Connect(fd, address)
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("connect UDP socket to %s: %w", to, err), unix.Close(fd))
	}
	return fd, nil
}

// localAddress returns what a socket is bound to.
func localAddress(fd int) (netip.AddrPort, error) {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address of socket: %w", err)
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)), nil
	}
	return netip.AddrPort{}, fmt.Errorf("address of socket: family of %T: %w", name, errs.ErrInvalid)
}

// rawAddress returns the address in the kernel's form and its length.
func rawAddress(a netip.AddrPort) (unix.RawSockaddrInet6, uint32) {
	var raw unix.RawSockaddrInet6
	var port [2]byte
	binary.BigEndian.PutUint16(port[:], a.Port())
	if a.Addr().Is6() && !a.Addr().Is4In6() {
		raw.Family, raw.Port, raw.Addr = unix.AF_INET6, binary.NativeEndian.Uint16(port[:]), a.Addr().As16()
		return raw, unix.SizeofSockaddrInet6
	}
	v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&raw))
	v4.Family, v4.Port, v4.Addr = unix.AF_INET, binary.NativeEndian.Uint16(port[:]), a.Addr().Unmap().As4()
	return raw, unix.SizeofSockaddrInet4
}

// socketDrops returns how many datagrams the kernel dropped for want of room in
// the socket's buffer: the count that SO_RXQ_OVFL tells with the next datagram,
// here without waiting for one.
func socketDrops(fd int) (uint64, error) {
	const dropped = 8 // SK_MEMINFO_DROPS
	var info [dropped + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, fmt.Errorf("drops of socket %d: %w", fd, errno)
	}
	return uint64(info[dropped]), nil
}
