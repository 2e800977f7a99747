package load

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"golang.org/x/sys/unix"
)

// farewellTimeout bounds the farewells of all transports.
const farewellTimeout = time.Minute

// farewell ends the DTLS connection whose state is given with a close_notify, as
// a browser does that closes its connection: without it the server keeps the
// transport for its grace time, and the next run would be measured with it. It
// calls write from the caller's goroutine.
func farewell(ctx context.Context, state []byte, write func([]byte)) error {
	var restored dtls.State
	if err := restored.UnmarshalBinary(state); err != nil {
		return fmt.Errorf("restore DTLS state: %w", err)
	}
	conn := &mutedConn{write: write, closed: make(chan struct{})}
	session, err := dtls.ResumeWithOptions(&restored, conn, &net.UDPAddr{}, dtls.WithInsecureSkipVerify(true))
	if err != nil {
		return fmt.Errorf("resume DTLS: %w", err)
	}
	if err := session.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("resume DTLS: %w", err)
	}
	if err := session.Close(); err != nil {
		return fmt.Errorf("close DTLS: %w", err)
	}
	return nil
}

// mutedConn is a packet connection that receives nothing until it is closed.
type mutedConn struct {
	write  func([]byte)
	once   sync.Once
	closed chan struct{}
}

// ReadFrom waits for Close.
func (c *mutedConn) ReadFrom([]byte) (int, net.Addr, error) {
	<-c.closed
	return 0, nil, net.ErrClosed
}

// WriteTo sends to the transport's only peer.
func (c *mutedConn) WriteTo(b []byte, _ net.Addr) (int, error) {
	c.write(b)
	return len(b), nil
}

// Close ends a ReadFrom.
func (c *mutedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (*mutedConn) LocalAddr() net.Addr              { return &net.UDPAddr{} }
func (*mutedConn) SetDeadline(time.Time) error      { return nil }
func (*mutedConn) SetReadDeadline(time.Time) error  { return nil }
func (*mutedConn) SetWriteDeadline(time.Time) error { return nil }

// bye sends the last datagram. A server that has gone needs none, and the counts
// of the run are made.
func (t *transport) bye(datagram []byte) { _, _ = unix.Write(t.fd, datagram) }
