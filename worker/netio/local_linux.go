package netio

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// segmentSpace is a control message of UDP_SEGMENT, sourceSpace the larger one of
// IP_PKTINFO and IPV6_PKTINFO.
const (
	segmentSpace = unix.SizeofCmsghdr + 8
	sourceSpace  = unix.SizeofCmsghdr + (unix.SizeofInet6Pktinfo+7)&^7
)

// sendControl is what goes beside one message. Either part may be left out: the
// segments stand last, the source before them.
type sendControl struct {
	_       [0]uint64 // aligned as struct cmsghdr
	source  [sourceSpace]byte
	segment [segmentSpace]byte
}

// askForLocal makes the kernel tell which address a datagram was sent to, where there
// may be several. Without it (a sandbox may refuse) the kernel chooses the source. Of a
// datagram that came before, the kernel does not know it.
func askForLocal(fd int, bound netip.Addr) {
	switch {
	case !bound.IsUnspecified():
	case bound.Is6():
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	default:
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	}
}

// prepareSource writes the header of the source's control message, which ends where
// that of the segments begins.
func (u *udpSocket) prepareSource(control *sendControl) {
	c := (*unix.Cmsghdr)(unsafe.Pointer(&control.source[sourceSpace-u.sourceSize()]))
	if u.ipv6 {
		c.Level, c.Type = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO
		c.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
		return
	}
	c.Level, c.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
	c.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
}

// sourceSize is the size of the source's control message.
func (u *udpSocket) sourceSize() int {
	if u.ipv6 {
		return unix.CmsgSpace(unix.SizeofInet6Pktinfo)
	}
	return unix.CmsgSpace(unix.SizeofInet4Pktinfo)
}

// read takes the local address of a datagram out of a control message (ip(7), ipv6(7)).
// For IPv4 that is the address to answer from, which differs from the destination of a
// broadcast.
func (l *Local) read(c *unix.Cmsghdr, data []byte) {
	switch {
	case c.Level == unix.IPPROTO_IP && c.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		if info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])); info.Spec_dst != [4]byte{} {
			l.addr = [16]byte{10: 0xff, 11: 0xff, 12: info.Spec_dst[0], 13: info.Spec_dst[1], 14: info.Spec_dst[2], 15: info.Spec_dst[3]}
		}
	case c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
		l.addr = info.Addr
		if linkLocal(&info.Addr) {
			l.scope = info.Ifindex
		}
	}
}

// linkLocal reports whether an IPv6 address is of fe80::/10.
func linkLocal(addr *[16]byte) bool { return addr[0] == 0xfe && addr[1]&0xc0 == 0x80 }

// setScope notes the interface that a link-local sender is on.
func (l *Local) setScope(from *unix.RawSockaddrInet6) {
	if from.Family == unix.AF_INET6 && from.Scope_id != 0 {
		l.scope = from.Scope_id
	}
}

// setSource writes the source's control message but for its header. An interface is
// named only where the address means nothing without: elsewhere the kernel's routes
// choose it, which may change.
func (u *udpSocket) setSource(data []byte, from *Local) {
	if !u.ipv6 {
		info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0]))
		info.Spec_dst = [4]byte(from.addr[12:])
		return
	}
	info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
	info.Addr, info.Ifindex = from.addr, 0
	if linkLocal(&from.addr) {
		info.Ifindex = from.scope
	}
}
