package netio

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sources knows which address the kernel sends from when none is named. The zero Sources
// is ready. It holds at most two descriptors and belongs to one goroutine.
type Sources struct {
	probes [2]int // one socket a family, plus one; 0: not open
}

// Chooses reports whether the kernel would send from local to dst by itself, as routes and
// addresses are now. False also means that it does not tell.
func (s *Sources) Chooses(dst netip.AddrPort, local Local) bool {
	if local.scope != 0 {
		return false
	}
	family, probe := unix.AF_INET6, &s.probes[1]
	var to unix.Sockaddr = &unix.SockaddrInet6{Port: int(dst.Port()), Addr: dst.Addr().As16()}
	if addr := dst.Addr().Unmap(); addr.Is4() {
		family, probe = unix.AF_INET, &s.probes[0]
		to = &unix.SockaddrInet4{Port: int(dst.Port()), Addr: addr.As4()}
	}
	if *probe == 0 {
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return false
		}
		*probe = fd + 1
	}
	return connectedFrom(*probe-1, to) == local.Addr()
}

// connectedFrom connects a UDP socket, which sends nothing, and returns the address that
// the kernel gave it; the zero Addr: none.
func connectedFrom(fd int, to unix.Sockaddr) netip.Addr {
	// Without this the address of the connection before would stay.
	none := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, _ = unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&none)), unix.SizeofSockaddrInet4)
	if unix.Connect(fd, to) != nil {
		return netip.Addr{}
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return netip.Addr{}
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(a.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(a.Addr)
	default:
		return netip.Addr{}
	}
}

// Close closes the descriptors. The Sources may be used again.
func (s *Sources) Close() {
	for i, probe := range s.probes {
		if probe != 0 {
			_ = unix.Close(probe - 1)
		}
		s.probes[i] = 0
	}
}
