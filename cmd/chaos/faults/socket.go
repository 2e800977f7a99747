package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/gorilla/websocket"

	"github.com/dspeak/sfu/internal/errs"
)

const (
	writeTimeout = 10 * time.Second
	// answerTimeout is how long a request may go unanswered.
	answerTimeout = 15 * time.Second
	// waiting messages of one socket.
	waiting = 1024
)

var (
	// errSocket: the signaling socket has gone.
	errSocket = errors.New("signaling socket lost")
	// errRefused: the server answered with an error.
	errRefused = errors.New("refused")
	// errTaken: the server gave up what the user had.
	errTaken = errors.New("the server ended the session")
	// errSilent: one does not hear another.
	errSilent = errors.New("not heard")
)

// message is any message of the signaling socket.
type message struct {
	Type        string          `json:"type"`
	RequestID   string          `json:"requestId,omitempty"`
	Data        json.RawMessage `json:"data,omitempty"`
	Details     json.RawMessage `json:"details,omitempty"`
	Producers   []string        `json:"producers,omitempty"`
	TransportID string          `json:"transportId,omitempty"`
	Reason      string          `json:"reason,omitempty"`
}

// socket is a signaling socket. Its reader ends with the connection; in is closed
// then.
type socket struct {
	conn *websocket.Conn
	in   chan message
	last int
}

func dial(ctx context.Context, base, user, channel string) (*socket, error) {
	query := url.Values{"auth": {user}, "channelId": {channel}}
	conn, resp, err := websocket.DefaultDialer.DialContext(ctx, base+"?"+query.Encode(), nil)
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close() // the dialer has read what there is
	}
	if err != nil {
		return nil, fmt.Errorf("dial: %w: %w", errSocket, err)
	}
	s := &socket{conn: conn, in: make(chan message, waiting)}
	go s.read()
	return s, nil
}

// read ends when the connection does. A user who reads nothing for long loses it.
func (s *socket) read() {
	defer close(s.in)
	for {
		var m message
		if s.conn.ReadJSON(&m) != nil {
			return
		}
		select {
		case s.in <- m:
		default:
			_ = s.conn.Close()
			return
		}
	}
}

// close ends the connection and waits for its reader.
func (s *socket) close() {
	_ = s.conn.Close()
	for range s.in { // until the reader has ended
	}
}

func (s *socket) write(m any) error {
	err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err == nil {
		err = s.conn.WriteJSON(m)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errSocket, err)
	}
	return nil
}

// next returns the next message, or false when wake is closed before one comes; the
// server's pings are answered on the way.
func (s *socket) next(ctx context.Context, wake <-chan struct{}) (message, bool, error) {
	for {
		select {
		case m, ok := <-s.in:
			switch {
			case !ok:
				return message{}, false, errSocket
			case m.Type != "ping":
				return m, true, nil
			}
			if err := s.write(map[string]string{"type": "pong"}); err != nil {
				return message{}, false, err
			}
		case <-wake:
			return message{}, false, nil
		case <-ctx.Done():
			return message{}, false, ctx.Err()
		}
	}
}

// call sends a request and decodes the data of the wanted answer. Other messages
// that come first go to the event function.
func (s *socket) call(ctx context.Context, request, answer string, data, into any, event func(message) error) error {
	s.last++
	id := strconv.Itoa(s.last)
	if err := s.write(map[string]any{"type": request, "requestId": id, "data": data}); err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	for {
		m, ok, err := s.next(ctx, limit.Done())
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", request, err)
		case !ok:
			return fmt.Errorf("%s: no answer within %v: %w", request, answerTimeout, errs.ErrUnavailable)
		case m.RequestID == id && m.Type == answer:
			if into == nil {
				return nil
			}
			if err := json.Unmarshal(m.Data, into); err != nil {
				return fmt.Errorf("decode %s: %w", answer, err)
			}
			return nil
		case m.RequestID == id && m.Type == "error":
			return fmt.Errorf("%s %w: %s %s", request, errRefused, m.Data, m.Details)
		}
		if err := event(m); err != nil {
			return err
		}
	}
}
