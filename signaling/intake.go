package signaling

import (
	"bufio"
	"errors"
	"net"
	"net/http"
)

// errIntake ends the reading of a message that takes too many bytes on the wire.
var errIntake = errors.New("message takes too many bytes on the wire")

// intake counts what is read from a connection. What a message says is bounded by
// Limits.MessageBytes; a message may also say nothing for ever, with empty fragments
// or empty compressed blocks. So the bytes that it takes are bounded as well. The
// reader owns the count.
type intake struct {
	net.Conn

	left int64
}

func (c *intake) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errIntake
	}
	n, err := c.Conn.Read(p)
	c.left -= int64(n)
	return n, err
}

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
