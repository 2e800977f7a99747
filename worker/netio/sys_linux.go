package netio

import (
	"net/netip"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls here never block, so the runtime is not told about them.

func sysRead(fd int, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
		uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func sysAccept(fd int) (int, netip.AddrPort, error) {
	var name unix.RawSockaddrInet6
	size := uint32(unix.SizeofSockaddrInet6)
	n, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&name)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, netip.AddrPort{}, errno
	}
	return int(n), addrOf(&name), nil
}

// sendVec gathers buffers into one sendmsg. One serves all connections of a listener.
type sendVec struct {
	headers [MaxPackets][frameHeader]byte
	bufs    [2 * MaxPackets][]byte
	one     [1][]byte
	iov     [2 * MaxPackets]unix.Iovec
	hdr     unix.Msghdr
}

// send returns how many bytes of bufs the socket took; a full one takes 0.
func (v *sendVec) send(fd int, bufs [][]byte) (int, error) {
	for i, b := range bufs {
		v.iov[i].Base = unsafe.SliceData(b)
		v.iov[i].SetLen(len(b))
	}
	v.hdr.Iov = &v.iov[0]
	v.hdr.SetIovlen(len(bufs))
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&v.hdr)),
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0, 0)
		runtime.KeepAlive(bufs)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EAGAIN:
			return 0, nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
