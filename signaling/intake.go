package signaling

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"time"
)

// errIntake ends the reading of a message that takes too many bytes on the wire.
var errIntake = errors.New("message takes too many bytes on the wire")

// intake counts what is read from a connection. What a message says is bounded by
// Limits.MessageBytes; a message may also say nothing for ever, with empty fragments
// or empty compressed blocks. So the bytes that it takes are bounded as well. The
// reader owns its fields.
//
// After the upgrade nothing is written through it: the WebSocket library answers a bad
// frame by itself, which would land within what the writer writes.
type intake struct {
	net.Conn

	left     int64
	broken   bool // the connection has ended, or its read deadline is over
	readOnly bool // set before the reader starts
}

func (c *intake) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errIntake
	}
	n, err := c.Conn.Read(p)
	c.left -= int64(n)
	c.broken = c.broken || err != nil
	return n, err
}

// Write drops what is written after the upgrade.
func (c *intake) Write(p []byte) (int, error) {
	if c.readOnly {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// SetWriteDeadline leaves the writer's deadline alone.
func (c *intake) SetWriteDeadline(t time.Time) error {
	if c.readOnly {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}

// controlHeader is the size of a client's control frame without its payload.
const controlHeader = 6

// forgive takes a ping or pong off the count: one may come between the fragments of a
// message, and any number of them before the next.
func (c *intake) forgive(data string) { c.left += int64(controlHeader + len(data)) }

// intakeWriter has the upgrader read through an intake.
type intakeWriter struct {
	http.ResponseWriter

	conn *intake // set by Hijack
}

// Hijack implements http.Hijacker.
func (w *intakeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffer, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.conn = &intake{Conn: conn, left: bufferBytes}
	return w.conn, buffer, nil
}
