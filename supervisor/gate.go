package supervisor

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// maxRefusals bounds the connections that are being told that there is no room.
	maxRefusals = 4
	// refusalTimeout bounds one of them.
	refusalTimeout = time.Second
	// maxRefusedBytes bounds what is read of a request that is refused.
	maxRefusedBytes = 8 << 10
	// fullInterval is the time between two log lines that tell of a full port.
	fullInterval = time.Minute
)

// refusal answers a request when there is no room.
const refusal = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nConnection: close\r\n" +
	"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 20\r\n\r\nService Unavailable\n"

// gate is the public port's listener. It bounds the open connections: a new one takes
// the place of the oldest that asks for nothing, as one that never sends its request, or
// gets the answer 503 where there is none such. A signaling socket, and a connection
// whose request for one is being handled, keep their place.
type gate struct {
	net.Listener

	limit int
	log   *slog.Logger
	// refusing has a place for each connection that is being refused.
	refusing chan struct{}
	refusals sync.WaitGroup

	mu    sync.Mutex
	open  map[*gated]struct{} // guarded by mu
	idle  list.List           // guarded by mu: of *gated, those without a request, the oldest first
	noted time.Time           // guarded by mu: when the log last told of a full port
}

func newGate(listener net.Listener, limit int, log *slog.Logger) *gate {
	return &gate{Listener: listener, limit: limit, log: log, refusing: make(chan struct{}, maxRefusals), open: map[*gated]struct{}{}}
}

// gated is a connection that has a place.
type gated struct {
	net.Conn

	gate *gate
	turn *list.Element // guarded by gate.mu: in gate.idle; nil: a request is being handled, or it is closed
}

// Accept returns the next connection that has a place.
func (g *gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c, former := g.admit(conn)
		if former != nil {
			_ = former.Conn.Close() // its owner hears of it
		}
		if c != nil {
			return c, nil
		}
		g.refuse(conn)
	}
}

// admit gives the connection a place, be it that of a former one, which is to be closed;
// nil: there is none.
func (g *gate) admit(conn net.Conn) (c, former *gated) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.open) >= g.limit {
		if now := time.Now(); now.Sub(g.noted) > fullInterval {
			g.noted = now
			g.log.Warn("public port is full; idle connections are closed, and without any, new ones refused", slog.Int("connections", len(g.open)))
		}
		oldest := g.idle.Front()
		if oldest == nil {
			return nil, nil
		}
		former, _ = oldest.Value.(*gated)
		g.removeLocked(former)
	}
	c = &gated{Conn: conn, gate: g}
	c.turn = g.idle.PushBack(c)
	g.open[c] = struct{}{}
	return c, former
}

func (g *gate) removeLocked(c *gated) {
	delete(g.open, c)
	if c.turn != nil {
		g.idle.Remove(c.turn)
		c.turn = nil
	}
}

// Close gives the place back.
func (c *gated) Close() error {
	err := c.Conn.Close()
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	c.gate.removeLocked(c)
	return err
}

// WriteBuffers implements signaling.BuffersWriter.
func (c *gated) WriteBuffers(parts net.Buffers) error {
	_, err := parts.WriteTo(c.Conn)
	return err
}

// CloseWrite lets net/http end a connection without losing its last answer.
func (c *gated) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// work takes the connection out of those that ask for nothing.
func (c *gated) work() {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	if c.turn != nil {
		c.gate.idle.Remove(c.turn)
		c.turn = nil
	}
}

// rest puts the connection back among those that ask for nothing.
func (c *gated) rest() {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	if _, open := c.gate.open[c]; open && c.turn == nil {
		c.turn = c.gate.idle.PushBack(c)
	}
}

type gateKey struct{}

// withConn notes the connection in its requests' context.
func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, gateKey{}, conn)
}

// keepPlace lets connections keep their place from their request until its answer has
// been written; connState ends that.
func keepPlace(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(gateKey{}).(*gated); ok {
			c.work()
		}
		handler.ServeHTTP(w, r)
	})
}

// connState is the http.Server's hook. The server calls it for an idle connection once
// the last answer has been written.
func connState(conn net.Conn, state http.ConnState) {
	if c, ok := conn.(*gated); ok && state == http.StateIdle {
		c.rest()
	}
}

// refuse answers 503, or closes the connection at once where many are being answered.
func (g *gate) refuse(conn net.Conn) {
	select {
	case g.refusing <- struct{}{}:
	default:
		_ = conn.Close()
		return
	}
	g.refusals.Go(func() {
		defer func() { <-g.refusing }()
		answerRefusal(conn)
	})
}

// answerRefusal reads the request first: a close with unread bytes is a reset, which may
// overtake the answer.
func answerRefusal(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(refusalTimeout)) // it fails for closed ones alone
	buffer, n := make([]byte, maxRefusedBytes), 0
	for n < len(buffer) && !bytes.Contains(buffer[:n], []byte("\r\n\r\n")) {
		more, err := conn.Read(buffer[n:])
		if err != nil {
			return
		}
		n += more
	}
	_, _ = conn.Write([]byte(refusal)) // nobody reads it when the client left
}

// wait returns when nobody is being refused any more.
func (g *gate) wait() { g.refusals.Wait() }
