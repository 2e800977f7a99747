package handshake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/pion/dtls/v3"

	"github.com/dspeak/sfu/internal/errs"
)

// maxAlert bounds an encrypted alert with its record header: two bytes, and at
// most an explicit nonce, a MAC and padding.
const maxAlert = 128

// ParseAlert reports whether a datagram holds an authentic close_notify or
// fatal alert of the peer whose handshake gave state. Forged, replayed and other
// records are false and no error; a state that cannot be read is an
// errs.ErrInvalid. Anything that looks like an encrypted alert costs the
// restoring of the state, some 0.1 ms: the caller limits how often. Any
// goroutine.
func ParseAlert(state, datagram []byte) (closed bool, err error) {
	if len(datagram) > maxAlert || !holds(datagram, typeAlert, 1) {
		return false, nil
	}
	var restored dtls.State
	if err := restored.UnmarshalBinary(state); err != nil {
		return false, fmt.Errorf("restore dtls state: %w: %w", err, errs.ErrInvalid)
	}
	conn := &onceConn{datagram: datagram}
	session, err := dtls.ResumeWithOptions(&restored, conn, peerAddr{},
		dtls.WithInsecureSkipVerify(true), dtls.WithLoggerFactory(silent{}))
	if err != nil {
		return false, fmt.Errorf("restore dtls session: %w", err)
	}
	defer func() { _ = session.Close() }()
	// What ends the Read below when the library reads on.
	conn.again = func() { _ = session.SetReadDeadline(time.Unix(1, 0)) }
	// An error here means that reading ended already, which conn knows about.
	if session.HandshakeContext(context.Background()) == nil {
		var b [maxAlert]byte
		for !conn.readAgain() {
			// A warning is an error, too, but the library reads on behind it.
			if _, err := session.Read(b[:]); errors.Is(err, io.EOF) {
				break
			}
		}
	}
	return !conn.readAgain(), nil
}

// onceConn is a packet connection with one datagram in it. It swallows writes:
// the answer to a close_notify must not be sent with a state that may be
// restored again.
type onceConn struct {
	datagram []byte
	again    func() // called on the second read

	mu    sync.Mutex
	reads int // guarded by mu
}

// ReadFrom returns the datagram, then that the connection is closed. A second
// read is the sign that the datagram ended nothing: after a close_notify or a
// fatal alert the library does not read on.
func (c *onceConn) ReadFrom(b []byte) (int, net.Addr, error) {
	c.mu.Lock()
	c.reads++
	first := c.reads == 1
	c.mu.Unlock()
	if first {
		return copy(b, c.datagram), peerAddr{}, nil
	}
	c.again()
	return 0, nil, net.ErrClosed
}

func (c *onceConn) readAgain() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reads > 1
}

func (*onceConn) WriteTo(b []byte, _ net.Addr) (int, error) { return len(b), nil }
func (*onceConn) Close() error                              { return nil }
func (*onceConn) LocalAddr() net.Addr                       { return peerAddr{} }
func (*onceConn) SetDeadline(time.Time) error               { return nil }
func (*onceConn) SetReadDeadline(time.Time) error           { return nil }
func (*onceConn) SetWriteDeadline(time.Time) error          { return nil }
