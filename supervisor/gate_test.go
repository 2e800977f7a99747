package supervisor

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/signaling"
)

func TestDescriptorsAreShared(t *testing.T) {
	for limit := range 3000 {
		for _, slots := range []int{2, 3, 9, 65} {
			for _, mainServer := range []bool{false, true} {
				media := 4 + 12*(limit%2)
				d, err := shareOut(limit, slots, media, 16384, mainServer)
				reserve := ownDescriptors + (slotDescriptors+media)*slots
				if err != nil {
					if limit >= reserve+fewestConnections+1 || !errors.Is(err, errs.ErrInvalid) || !strings.Contains(err.Error(), "LimitNOFILE") {
						t.Fatalf("%d descriptors, %d slots: %v", limit, slots, err)
					}
					continue
				}
				if d.public+d.api+reserve > limit || d.sockets < 1 || d.public-d.sockets < 2 || mainServer != (d.api > 0) {
					t.Fatalf("%d descriptors, %d slots: %+v", limit, slots, d)
				}
			}
		}
	}
	for _, limit := range []int{20000, 65536, 1 << 30} {
		if d, err := shareOut(limit, 3, slotSockets, 16384, true); err != nil || d.sockets != 16384 || d.api != maxAPIConnections || d.public != 16384+maxWaiting {
			t.Errorf("%d descriptors: %+v, %v", limit, d, err)
		}
	}
}

// TestTooFewDescriptorsNameTheLimit that would do.
func TestTooFewDescriptorsNameTheLimit(t *testing.T) {
	_, err := shareOut(40, 2, slotSockets, 100, false)
	if err == nil || !strings.Contains(err.Error(), "at least 64") {
		t.Fatalf("got %v", err)
	}
	if _, err := shareOut(64, 2, slotSockets, 100, false); err != nil {
		t.Error(err)
	}
}

// A frame's header and its payload leave the port in one system call.
var _ signaling.BuffersWriter = (*gated)(nil)

// gateLab is a gated port whose handler of /socket answers when it is told.
type gateLab struct {
	t       *testing.T
	address string
	entered chan struct{}
	leave   chan struct{}
}

func newGateLab(t *testing.T, limit int) *gateLab {
	t.Helper()
	l := &gateLab{t: t, entered: make(chan struct{}, 100), leave: make(chan struct{})}
	var config net.ListenConfig
	port, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/socket", keepPlace(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		l.entered <- struct{}{}
		<-l.leave
	})))
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") })
	server := &http.Server{Handler: mux, ConnContext: withConn, ConnState: connState, ReadHeaderTimeout: time.Minute}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serveHTTP(ctx, server, port, limit, slog.New(slog.DiscardHandler)) }()
	l.address = port.Addr().String()
	var once sync.Once
	t.Cleanup(func() {
		once.Do(func() { close(l.leave) })
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l
}

func (l *gateLab) dial() net.Conn {
	l.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(l.t.Context(), "tcp", l.address)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

func (l *gateLab) ask(conn net.Conn, path string) {
	l.t.Helper()
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		l.t.Fatal(err)
	}
}

func (l *gateLab) answer(conn net.Conn) (int, http.Header) {
	l.t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		l.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	return response.StatusCode, response.Header
}

// closed waits until the server closes a connection.
func (l *gateLab) closed(conn net.Conn) {
	l.t.Helper()
	if n, err := conn.Read(make([]byte, 1)); err == nil || n > 0 {
		l.t.Errorf("read %d bytes of a connection that is to be closed", n)
	} else if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		l.t.Error("a connection stays that is to be closed")
	}
}

// TestSilentConnectionsGiveWay to those that ask, the oldest first.
func TestSilentConnectionsGiveWay(t *testing.T) {
	const limit = 4
	l := newGateLab(t, limit)
	var silent []net.Conn
	for i := range 3 * limit {
		conn := l.dial()
		if i%2 == 0 { // as slow as a client can be
			_, _ = io.WriteString(conn, "GET /health HTTP/1.1\r\nHost:")
		}
		silent = append(silent, conn)
	}
	for _, conn := range silent[:2*limit] {
		l.closed(conn)
	}
	for range 3 * limit {
		conn := l.dial()
		l.ask(conn, "/health")
		if status, _ := l.answer(conn); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
	}
}

// TestBusyConnectionsKeepTheirPlace and further ones are told that there is no room,
// until one ends.
func TestBusyConnectionsKeepTheirPlace(t *testing.T) {
	const limit = 4
	l := newGateLab(t, limit)
	var busy []net.Conn
	for range limit {
		conn := l.dial()
		l.ask(conn, "/socket")
		<-l.entered
		busy = append(busy, conn)
	}
	for range 20 {
		conn := l.dial()
		l.ask(conn, "/socket")
		status, header := l.answer(conn)
		if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
			t.Fatalf("status %d, header %v", status, header)
		}
		l.closed(conn)
	}
	l.leave <- struct{}{}
	// The one that was answered gives its place up a moment after its handler returns.
	status := http.StatusServiceUnavailable
	for deadline := time.Now().Add(patience); status == http.StatusServiceUnavailable && time.Now().Before(deadline); {
		conn := l.dial()
		l.ask(conn, "/health")
		if status, _ = l.answer(conn); status == http.StatusServiceUnavailable {
			l.closed(conn)
		}
	}
	if status != http.StatusOK {
		t.Errorf("status %d once there is room", status)
	}
	answered := 0
	for _, conn := range busy {
		_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, _ := conn.Read(make([]byte, 1)); n > 0 {
			answered++
		}
	}
	if answered != 1 {
		t.Errorf("%d of the busy connections were answered, want 1", answered)
	}
}

// TestRefusalsAreBounded when nobody reads them.
func TestRefusalsAreBounded(t *testing.T) {
	l := newGateLab(t, 1)
	holder := l.dial()
	l.ask(holder, "/socket")
	<-l.entered
	var flood []net.Conn
	for range 10 * maxRefusals {
		flood = append(flood, l.dial()) // says nothing
	}
	for _, conn := range flood {
		l.closed(conn)
	}
	for { // a refusal ends a moment after its connection
		conn := l.dial()
		l.ask(conn, "/health")
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			continue
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("status %d", response.StatusCode)
		}
		return
	}
}
