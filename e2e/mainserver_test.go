package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
)

// mainServer stands in for the app's main server: channel validation, ICE
// servers and the interop socket.
type mainServer struct {
	http *httptest.Server

	mu       sync.Mutex
	channels map[string]details // by id; guarded by mu
	config   string             // JSON; guarded by mu
	asked    []string           // credentials seen; guarded by mu
	links    int                // interop connections seen; guarded by mu
	link     *websocket.Conn    // the newest; guarded by mu
	messages []message          // from the backend; guarded by mu
	wait     sync.WaitGroup     // readers of links
}

// details is the answer for a channel.
type details struct {
	status int
	body   string
}

func newMainServer(t *testing.T) *mainServer {
	t.Helper()
	m := &mainServer{channels: make(map[string]details), config: "[]"}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /dspeak/channel/details", m.serveDetails)
	mux.HandleFunc("GET /dspeak/config", func(w http.ResponseWriter, _ *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		_, _ = w.Write([]byte(m.config))
	})
	mux.HandleFunc("GET /dspeak/interop", m.serveLink)
	m.http = httptest.NewServer(mux)
	t.Cleanup(func() {
		m.cut()
		m.http.Close()
		m.wait.Wait()
	})
	return m
}

func (m *mainServer) url() string { return m.http.URL }

// iceServers sets the answer for the app's configuration.
func (m *mainServer) iceServers(list string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.config = list
}

// answer sets what the main server says of a channel; others are media channels.
func (m *mainServer) answer(channel string, status int, body string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.channels[channel] = details{status, body}
}

func (m *mainServer) serveDetails(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	m.asked = append(m.asked, r.Header.Get("Authorization"))
	answer, ok := m.channels[r.URL.Query().Get("id")]
	m.mu.Unlock()
	if !ok {
		answer = details{http.StatusOK, `{"isMedia":true}`}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(answer.status)
	_, _ = w.Write([]byte(answer.body))
}

func (m *mainServer) serveLink(w http.ResponseWriter, r *http.Request) {
	var upgrader websocket.Upgrader
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	m.wait.Add(1)
	defer m.wait.Done()
	m.mu.Lock()
	m.link = conn
	m.links++
	m.mu.Unlock()
	for {
		_, text, err := conn.ReadMessage()
		if err != nil {
			_ = conn.Close()
			return
		}
		var got message
		if err := json.Unmarshal(text, &got); err != nil {
			got = message{Type: "not JSON: " + string(text)}
		}
		m.mu.Lock()
		m.messages = append(m.messages, got)
		m.mu.Unlock()
	}
}

// send writes a text to the backend.
func (m *mainServer) send(t *testing.T, text string) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.link == nil {
		t.Fatal("the backend has not dialed")
	}
	if err := m.link.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// cut ends the interop connection.
func (m *mainServer) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.link != nil {
		_ = m.link.Close()
	}
}

// got is a check for eventually: a message came that fits.
func (m *mainServer) got(what string, fits func(message) bool) func() error {
	return func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if slices.ContainsFunc(m.messages, fits) {
			return nil
		}
		return fmt.Errorf("main server got no %s: %w", what, errMissing)
	}
}

// forget drops the messages so far.
func (m *mainServer) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.messages = nil
}

var errMissing = errors.New("missing")
