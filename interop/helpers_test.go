package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/interop/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

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

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// fakeBackend has channels and records kicks.
type fakeBackend struct {
	snapshot func() []ChannelUsers
	kick     func(ident.UserID, ident.ChannelID, string) error
}

func (b *fakeBackend) Snapshot() (wire.SfuStatus, []ChannelUsers) {
	status := wire.SfuStatus{Status: wire.StatusOK, Details: "1 worker"}
	if b.snapshot == nil {
		return status, nil
	}
	return status, b.snapshot()
}

func (b *fakeBackend) ForceDisconnect(_ context.Context, u ident.UserID, c ident.ChannelID, reason string) error {
	if b.kick == nil {
		return nil
	}
	return b.kick(u, c, reason)
}

// message is any message of the backend.
type message struct {
	Type, Event, Status, Details, UserID, ChannelID, Data, Timestamp string

	UserIDs []string
}

// mainSocket is the main server's end of one link.
type mainSocket struct {
	*websocket.Conn
	ended chan struct{} // closed by the test's end
}

func (m *mainSocket) next(t *testing.T) message {
	t.Helper()
	_ = m.SetReadDeadline(time.Now().Add(patience))
	_, b, err := m.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	var got message
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	return got
}

// syncs reads the status and n syncs, as channel=user,user.
func (m *mainSocket) syncs(t *testing.T, n int) map[string]string {
	t.Helper()
	if got := m.next(t); got.Type != "sfu_status" || got.Status != "ok" {
		t.Fatalf("first is %+v", got)
	}
	all := map[string]string{}
	for range n {
		got := m.next(t)
		if got.Type != "channel_presence_sync" {
			t.Fatalf("got %+v", got)
		}
		all[got.ChannelID] = strings.Join(got.UserIDs, ",")
	}
	return all
}

func (m *mainSocket) send(t *testing.T, text string) {
	t.Helper()
	if err := m.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// mainServer accepts links.
type mainServer struct {
	url     string
	sockets chan *mainSocket
	refuse  chan struct{} // each value refuses one dial
}

func newMainServer(t *testing.T) *mainServer {
	t.Helper()
	m := &mainServer{sockets: make(chan *mainSocket), refuse: make(chan struct{}, 16)}
	done := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-m.refuse:
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		default:
		}
		if r.URL.Path != "/base/dspeak/interop" {
			t.Errorf("dialled %s", r.URL.Path)
		}
		conn, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		s := &mainSocket{conn, make(chan struct{})}
		select {
		case m.sockets <- s:
			<-done
		case <-done:
		}
	}))
	m.url = "ws" + strings.TrimPrefix(server.URL, "http") + "/base/"
	t.Cleanup(func() {
		close(done)
		server.Close()
	})
	return m
}

func (m *mainServer) accept(t *testing.T) *mainSocket {
	t.Helper()
	select {
	case s := <-m.sockets:
		return s
	case <-time.After(patience):
		t.Fatal("nobody dials")
		return nil
	}
}

// newLink makes a link that retries soon.
func newLink(t *testing.T, cfg LinkConfig) *Link {
	t.Helper()
	if cfg.RetryMin == 0 {
		cfg.RetryMin, cfg.RetryMax = 10*time.Millisecond, 50*time.Millisecond
	}
	l, err := NewLink(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// run makes and starts a link and stops it at the test's end.
func run(t *testing.T, cfg LinkConfig) (l *Link, stop func()) {
	t.Helper()
	l = newLink(t, cfg)
	return l, start(t, l)
}

// start runs a link until stop or the test's end.
func start(t *testing.T, l *Link) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(stop)
	return stop
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
