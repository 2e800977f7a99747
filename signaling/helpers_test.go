package signaling

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/signaling/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// fakeBackend records what it is told. Its functions may be nil.
type fakeBackend struct {
	admit  func(ident.UserID, ident.ChannelID) error
	join   func(context.Context, *Session) error
	handle func(context.Context, *Session, wire.Request) error

	sessions chan *Session // joined ones
	left     chan wire.CloseCause

	mu       sync.Mutex
	requests []wire.Request
	leaves   map[*Session]int
}

func newBackend() *fakeBackend {
	return &fakeBackend{sessions: make(chan *Session, 64), left: make(chan wire.CloseCause, 64), leaves: map[*Session]int{}}
}

func (b *fakeBackend) Admit(u ident.UserID, c ident.ChannelID) error {
	if b.admit == nil {
		return nil
	}
	return b.admit(u, c)
}

func (b *fakeBackend) Join(ctx context.Context, s *Session) error {
	if b.join != nil {
		if err := b.join(ctx, s); err != nil {
			return err
		}
	}
	s.Send(wire.CurrentlyInChannel{InRoom: []ident.UserID{s.UserID()}})
	s.Send(wire.Connected{ChannelID: s.ChannelID(), UserID: s.UserID(), Message: wire.MessageConnected})
	b.sessions <- s
	return nil
}

func (b *fakeBackend) Handle(ctx context.Context, s *Session, req wire.Request) error {
	b.mu.Lock()
	b.requests = append(b.requests, req)
	b.mu.Unlock()
	if b.handle != nil {
		return b.handle(ctx, s, req)
	}
	s.Send(wire.RtpCapabilitiesAck{RequestID: req.RequestID})
	return nil
}

func (b *fakeBackend) Leave(s *Session, cause wire.CloseCause) {
	b.mu.Lock()
	b.leaves[s]++
	b.mu.Unlock()
	b.left <- cause
}

// cause waits for the end of a session.
func (b *fakeBackend) cause(t *testing.T) wire.CloseCause {
	t.Helper()
	select {
	case c := <-b.left:
		return c
	case <-time.After(patience):
		t.Fatal("nobody left")
		return wire.CloseCause{}
	}
}

// session waits for the next joined one.
func (b *fakeBackend) session(t *testing.T) *Session {
	t.Helper()
	select {
	case s := <-b.sessions:
		return s
	case <-time.After(patience):
		t.Fatal("nobody joined")
		return nil
	}
}

// lines is a log that tests read.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// harness is a Server behind a real HTTP server.
type harness struct {
	*Server
	backend *fakeBackend
	http    *httptest.Server
	log     *lines
}

func start(t *testing.T, cfg Config) *harness {
	t.Helper()
	h := &harness{log: &lines{}}
	if cfg.Backend == nil {
		cfg.Backend = newBackend()
	}
	h.backend, _ = cfg.Backend.(*fakeBackend)
	cfg.Log = slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if cfg.Limits.CloseTimeout == 0 {
		cfg.Limits.CloseTimeout = 200 * time.Millisecond
	}
	h.Server = NewServer(cfg)
	h.http = httptest.NewServer(h.Server)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := h.Close(ctx, wire.CloseGoingAway, "end of test"); err != nil {
			t.Error(err)
		}
		h.http.Close()
		if n := h.Len(); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
	})
	return h
}

// client is a WebSocket as a browser has it.
type client struct {
	*websocket.Conn
}

func (h *harness) dialQuery(t *testing.T, query string, header http.Header) (*client, *http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, resp, err := websocket.DefaultDialer.DialContext(ctx, "ws"+strings.TrimPrefix(h.http.URL, "http")+"/socket"+query, header)
	if err != nil {
		return nil, resp, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	return &client{conn}, resp, nil
}

func (h *harness) dial(t *testing.T, user, channel string) *client {
	t.Helper()
	c, _, err := h.dialQuery(t, "?"+url.Values{"auth": {user}, "channelId": {channel}}.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// enter dials and takes the greeting.
func (h *harness) enter(t *testing.T, user string) *client {
	t.Helper()
	c := h.dial(t, user, "channel")
	c.expect(t, "currentlyInChannel")
	c.expect(t, "connected")
	return c
}

func (c *client) send(t *testing.T, text string) {
	t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// answer is any message of the server.
type answer struct {
	Type      string          `json:"type"`
	RequestID json.RawMessage `json:"requestId"`
	Data      json.RawMessage `json:"data"`
	Details   string          `json:"details"`
	Status    int             `json:"status"`
	Timestamp int64           `json:"timestamp"`
}

func (a answer) text() string {
	var s string
	_ = json.Unmarshal(a.Data, &s)
	return s
}

// next reads one message.
func (c *client) next(t *testing.T) answer {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	kind, b, err := c.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := json.Unmarshal(b, &a); err != nil || kind != websocket.TextMessage {
		t.Fatalf("frame of kind %d: %q", kind, b)
	}
	return a
}

func (c *client) expect(t *testing.T, typ string) answer {
	t.Helper()
	a := c.next(t)
	if a.Type != typ {
		t.Fatalf("got %s %s, want %s", a.Type, a.Data, typ)
	}
	return a
}

// closed reads until the close frame.
func (c *client) closed(t *testing.T) (code int, reason string) {
	t.Helper()
	for {
		_, _, err := c.ReadMessage()
		if err == nil {
			continue
		}
		if e, ok := errors.AsType[*websocket.CloseError](err); ok {
			return e.Code, e.Text
		}
		t.Fatalf("ended without a close frame: %v", err)
	}
}

// drained waits for the TCP end of a closing socket.
func (c *client) drained() error {
	_, err := io.Copy(io.Discard, c.NetConn())
	return err
}

// eventually asks again until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !holds(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not so: %s", what)
		}
	}
}
