package handoff

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

// Conn is one end of the handoff socket. One goroutine may send while another
// receives.
type Conn struct {
	unix *net.UnixConn
}

// Pair makes a connected pair: the parent's end, and the file that the child inherits.
func Pair() (*Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make handoff socket: %w", err)
	}
	parent, err := FromFile(os.NewFile(uintptr(fds[0]), "handoff-parent"))
	child := os.NewFile(uintptr(fds[1]), "handoff-child")
	if err != nil {
		return nil, nil, errors.Join(err, child.Close())
	}
	return parent, child, nil
}

// FromFile takes a handoff socket over; the file is closed.
func FromFile(f *os.File) (*Conn, error) {
	c, err := net.FileConn(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("open handoff socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("handoff socket is a %T: %w", c, errs.ErrInvalid), c.Close())
	}
	return &Conn{unix: u}, nil
}

// Close closes this end; a Receive under way returns.
func (c *Conn) Close() error { return c.unix.Close() }

// Send sends one message; files go with those that name files, and stay open here.
func (c *Conn) Send(m Message, files ...*os.File) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode handoff message: %w", err)
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			// Fd would make the shared file description blocking.
			if fds[i], err = descriptor(f); err != nil {
				return err
			}
		}
		rights = unix.UnixRights(fds...)
	}
	if err := c.unix.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return fmt.Errorf("set handoff deadline: %w", err)
	}
	if _, _, err := c.unix.WriteMsgUnix(b, rights, nil); err != nil {
		return fmt.Errorf("send handoff message: %w", err)
	}
	return nil
}

func descriptor(f *os.File) (int, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("descriptor of %s: %w", f.Name(), err)
	}
	fd := -1
	if err := raw.Control(func(v uintptr) { fd = int(v) }); err != nil {
		return -1, fmt.Errorf("descriptor of %s: %w", f.Name(), err)
	}
	return fd, nil
}

// Receive waits for one message. The files that came with it are the caller's to
// close, named as the message says. io.EOF: the other end is gone.
func (c *Conn) Receive(ctx context.Context) (Message, []*os.File, error) {
	if err := c.unix.SetReadDeadline(time.Time{}); err != nil {
		return Message{}, nil, fmt.Errorf("set handoff deadline: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.unix.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b, oob := make([]byte, maxMessage+1), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, _, _, err := c.unix.ReadMsgUnix(b, oob)
	if ctx.Err() != nil && err != nil {
		return Message{}, nil, ctx.Err()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return Message{}, nil, fmt.Errorf("receive handoff message: %w", err)
	}
	if n == 0 {
		return Message{}, nil, io.EOF
	}
	fds, err := rights(oob[:oobn])
	if err != nil {
		return Message{}, nil, err
	}
	m, err := decodeWith(b[:n], len(fds))
	if err != nil {
		for _, fd := range fds {
			err = errors.Join(err, unix.Close(fd))
		}
		return Message{}, nil, err
	}
	files := make([]*os.File, len(fds))
	for i, fd := range fds {
		files[i] = NewFile(fd, m.files()[i])
	}
	return m, files, nil
}

// NewFile takes a received descriptor over. The Go runtime polls files that do not
// block: for a media socket that would wake this process with every packet that a
// worker gets. So datagram sockets are made blocking first; a worker says with each
// call that it does not want to wait.
func NewFile(fd int, name string) *os.File {
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err == nil && kind == unix.SOCK_DGRAM {
		_ = unix.SetNonblock(fd, false) // at worst it is polled
	}
	return os.NewFile(uintptr(fd), name)
}

// decodeWith decodes a message that came with so many files, which it must name.
func decodeWith(b []byte, files int) (Message, error) {
	m, err := Decode(b)
	if err != nil {
		return m, err
	}
	if named := len(m.files()); named != files {
		return m, fmt.Errorf("handoff names %d files and brings %d: %w", named, files, errs.ErrInvalid)
	}
	return m, nil
}

// rights reads the descriptors of a control message.
func rights(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("parse handoff rights: %w", err)
	}
	var fds []int
	for i := range messages {
		more, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, fmt.Errorf("parse handoff rights: %w", err)
		}
		for _, fd := range more {
			unix.CloseOnExec(fd)
		}
		fds = append(fds, more...)
	}
	return fds, nil
}
