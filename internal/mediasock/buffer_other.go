//go:build unix && !linux

package mediasock

import "golang.org/x/sys/unix"

// bookkeeping is how many times the usable size the kernel reports.
const bookkeeping = 1

// setBuffers asks for large buffers. What came of it is read back by the caller.
func setBuffers(fd, size int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, size)
}
