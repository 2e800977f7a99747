package handoff

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

// Listener is where a worker waits for a new supervisor.
type Listener struct{ unix *net.UnixListener }

// Listen opens the socket of that path like ListenPath.
func Listen(path string) (*Listener, error) {
	u, err := ListenPath("unixpacket", path)
	if err != nil {
		return nil, err
	}
	return &Listener{unix: u}, nil
}

// ListenPath opens a Unix socket in the run directory, which only this user may open. It
// replaces a socket that a killed process left there, and nothing else.
func ListenPath(network, path string) (*net.UnixListener, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("look for a former socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s is no socket and in the way of one; remove it: %w", path, errs.ErrExists)
	default:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove the former socket: %w", err)
		}
	}
	u, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect %s: %w", path, err), u.Close())
	}
	return u, nil
}

// Accept waits for the next connection; it ends with an error when Close is called.
func (l *Listener) Accept() (*Conn, error) {
	c, err := l.unix.AcceptUnix()
	if err != nil {
		return nil, fmt.Errorf("accept handoff: %w", err)
	}
	return &Conn{unix: c}, nil
}

// Close removes the socket.
func (l *Listener) Close() error { return l.unix.Close() }

// Dial connects to a Listener.
func Dial(ctx context.Context, path string) (*Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "unixpacket", path)
	if err != nil {
		return nil, fmt.Errorf("dial handoff: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("handoff socket is a %T: %w", c, errs.ErrInvalid), c.Close())
	}
	return &Conn{unix: u}, nil
}

// PeerPID is the process at the other end when the connection was made; behind a
// Listener it is the one that listens (SO_PEERCRED of unix(7)).
func (c *Conn) PeerPID() (int, error) {
	raw, err := c.unix.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("peer of the handoff socket: %w", err)
	}
	var cred *unix.Ucred
	var fault error
	err = raw.Control(func(fd uintptr) {
		cred, fault = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, fault); err != nil {
		return 0, fmt.Errorf("peer of the handoff socket: %w", err)
	}
	if cred.Pid <= 0 {
		return 0, fmt.Errorf("peer of the handoff socket is outside of this process namespace: %w", errs.ErrUnsupported)
	}
	return int(cred.Pid), nil
}
