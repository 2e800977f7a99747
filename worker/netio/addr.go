//go:build unix

package netio

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

// localAddr is the address that a socket is bound to.
func localAddr(fd int) (netip.AddrPort, error) {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("getsockname: %w", err)
	}
	addr, ok := fromSockaddr(name)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("socket is of no IP family: %w", errs.ErrInvalid)
	}
	return addr, nil
}

func fromSockaddr(name unix.Sockaddr) (netip.AddrPort, bool) {
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), true
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)), true
	}
	return netip.AddrPort{}, false
}
