package mediasock

import "golang.org/x/sys/unix"

// bookkeeping is how many times the usable size the kernel reports (socket(7)).
const bookkeeping = 2

// setBuffers asks for large buffers: past the administrator's limit where that
// is permitted, up to it elsewhere. What came of it is read back by the caller.
func setBuffers(fd, size int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, size) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, size)
	}
}
