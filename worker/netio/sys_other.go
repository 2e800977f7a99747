//go:build unix && !linux

package netio

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

func sysRead(fd int, b []byte) (int, error) { return unix.Read(fd, b) }

func sysAccept(fd int) (int, netip.AddrPort, error) {
	conn, name, err := unix.Accept(fd)
	if err != nil {
		return -1, netip.AddrPort{}, err
	}
	unix.CloseOnExec(conn)
	addr, ok := fromSockaddr(name)
	if !ok {
		return -1, addr, errors.Join(errs.ErrInvalid, unix.Close(conn))
	}
	if err := unix.SetNonblock(conn, true); err != nil {
		return -1, addr, errors.Join(err, unix.Close(conn))
	}
	return conn, addr, nil
}

// sendVec gathers buffers into one sendmsg. One serves all connections of a listener.
type sendVec struct {
	headers [MaxPackets][frameHeader]byte
	bufs    [2 * MaxPackets][]byte
	one     [1][]byte
}

// send returns how many bytes of bufs the socket took; a full one takes 0.
func (*sendVec) send(fd int, bufs [][]byte) (int, error) {
	n, err := unix.SendmsgBuffers(fd, bufs, nil, nil, 0)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return 0, nil
	}
	return n, err
}
