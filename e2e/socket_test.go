package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

const answerTimeout = 10 * time.Second

// message is any message of the sockets, with the fields that tests look at.
type message struct {
	Type      string          `json:"type"`
	RequestID json.RawMessage `json:"requestId"`
	Data      json.RawMessage `json:"data"`
	Details   string          `json:"details"`
	Status    any             `json:"status"`

	InRoom          []string          `json:"inRoom"`
	Producers       []string          `json:"producers"`
	ProducerUserMap map[string]string `json:"producerUserMap"`
	TransportID     string            `json:"transportId"`
	Reason          string            `json:"reason"`
	Timestamp       any               `json:"timestamp"`

	Event      string   `json:"event"`
	UserID     string   `json:"userId"`
	ChannelID  string   `json:"channelId"`
	ProducerID string   `json:"producerId"`
	UserIDs    []string `json:"userIds"`

	raw string
}

// text is the data of an error.
func (m message) text() string {
	var text string
	_ = json.Unmarshal(m.Data, &text)
	return text
}

func (m message) decode(t *testing.T, into any) {
	t.Helper()
	if err := json.Unmarshal(m.Data, into); err != nil {
		t.Fatalf("data of %s: %v", m.raw, err)
	}
}

// socket is a client's signaling socket. Its reader keeps all messages.
type socket struct {
	conn *websocket.Conn
	done chan struct{}

	mu       sync.Mutex
	last     int       // guarded by mu
	messages []message // guarded by mu
	read     int       // messages that expect has passed; guarded by mu
	closeErr error     // guarded by mu
}

func (s *server) dialRaw(t *testing.T, query string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	dialer := websocket.Dialer{NetDialContext: s.settings.space.dial, HandshakeTimeout: answerTimeout}
	conn, response, err := dialer.DialContext(t.Context(), s.socketURL()+query, nil)
	if response != nil {
		t.Cleanup(func() { _ = response.Body.Close() })
	}
	return conn, response, err
}

// dial opens a socket; it does not wait for `connected`.
func (s *server) dial(t *testing.T, user, channel string) *socket {
	t.Helper()
	// Not url.Values: a plus sign is no blank here.
	conn, _, err := s.dialRaw(t, "?auth="+url.PathEscape(user)+"&channelId="+url.PathEscape(channel))
	if err != nil {
		t.Fatalf("dial as %s: %v", user, err)
	}
	c := &socket{conn: conn, done: make(chan struct{})}
	go c.readAll()
	t.Cleanup(c.close)
	return c
}

// enter opens a socket and waits until it has joined.
func (s *server) enter(t *testing.T, user, channel string) *socket {
	t.Helper()
	c := s.dial(t, user, channel)
	c.expect(t, "connected")
	return c
}

func (c *socket) readAll() {
	defer close(c.done)
	for {
		_, text, err := c.conn.ReadMessage()
		c.mu.Lock()
		if err != nil {
			c.closeErr = err
			c.mu.Unlock()
			return
		}
		got := message{raw: string(text)}
		_ = json.Unmarshal(text, &got)
		c.messages = append(c.messages, got)
		c.mu.Unlock()
	}
}

func (c *socket) close() {
	_ = c.conn.Close()
	<-c.done
}

func (c *socket) sendText(t *testing.T, text string) {
	t.Helper()
	if err := c.conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		t.Fatalf("send %s: %v", text, err)
	}
}

// expect waits for the next message of a type; what came before is passed over.
func (c *socket) expect(t *testing.T, kind string) message {
	t.Helper()
	return c.expectThat(t, kind, func(m message) bool { return m.Type == kind })
}

func (c *socket) expectThat(t *testing.T, what string, fits func(message) bool) message {
	t.Helper()
	var found message
	err := waitFor(t.Context(), answerTimeout, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		at := slices.IndexFunc(c.messages[c.read:], fits)
		if at < 0 {
			return fmt.Errorf("no %s in %s, close: %w", what, c.unreadLocked(), errors.Join(errMissing, c.closeErr))
		}
		found = c.messages[c.read+at]
		c.read += at + 1
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (c *socket) unreadLocked() []string {
	var texts []string
	for _, m := range c.messages[c.read:] {
		texts = append(texts, m.raw)
	}
	return texts
}

// all is a copy of every message so far.
func (c *socket) all() []message {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.messages)
}

// request sends a request and returns the first answer with its id.
func (c *socket) request(t *testing.T, kind string, data any) message {
	t.Helper()
	c.mu.Lock()
	c.last++
	id := strconv.Quote(fmt.Sprintf("r%d", c.last))
	c.mu.Unlock()
	body, err := json.Marshal(map[string]any{"type": kind, "data": data, "requestId": json.RawMessage(id)})
	if err != nil {
		t.Fatal(err)
	}
	c.sendText(t, string(body))
	return c.expectThat(t, "answer to "+string(body), func(m message) bool { return string(m.RequestID) == id })
}

// closed waits for the end of the socket and returns its close code.
func (c *socket) closed(t *testing.T) (int, string) {
	t.Helper()
	select {
	case <-c.done:
	case <-time.After(answerTimeout):
		t.Fatal("the socket stays open")
	}
	if closeErr, ok := errors.AsType[*websocket.CloseError](c.closeErr); ok {
		return closeErr.Code, closeErr.Text
	}
	return 0, fmt.Sprint(c.closeErr)
}
