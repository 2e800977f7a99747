package crowd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/dspeak/sfu/internal/errs"
)

const (
	writeTimeout = 10 * time.Second
	// retries is how often a client that is told to come later does.
	retries = 6
)

// answer is a message with the id of a request.
type answer struct {
	Type      string          `json:"type"`
	RequestID string          `json:"requestId"`
	Data      json.RawMessage `json:"data"`
}

// socket is one signaling socket. A goroutine reads until it ends.
type socket struct {
	conn    *websocket.Conn
	answers chan answer
	greeted chan struct{} // closed once `connected` has come
	ended   chan struct{} // closed once nothing is read any more
	err     error         // why; set before

	writing sync.Mutex
	asked   int // by the one who asks
}

// counted counts the bytes that are read from a connection.
type counted struct {
	net.Conn

	bytes *atomic.Uint64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytes.Add(uint64(n))
	return n, err
}

// dial opens user number i's socket, from a loopback address that few others use. It
// comes again when the server has no time for it.
func (u *user) dial(ctx context.Context) (*socket, error) {
	cfg := u.run.cfg
	dialer := net.Dialer{}
	if host, _, err := net.SplitHostPort(u.run.host); err == nil && net.ParseIP(host).IsLoopback() && net.ParseIP(host).To4() != nil {
		dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(u.number/cfg.PerAddress))}
	}
	ws := websocket.Dialer{
		EnableCompression: cfg.Compress, WriteBufferPool: &u.run.buffers,
		NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			return counted{conn, &u.bytes}, err
		},
	}
	query := url.Values{"auth": {u.name}, "channelId": {u.run.channel}}
	for try := 1; ; try++ {
		conn, resp, err := ws.DialContext(ctx, cfg.URL+"?"+query.Encode(), nil)
		if resp != nil && resp.Body != nil {
			_ = resp.Body.Close() // the dialer has read what there is
		}
		if err == nil {
			s := &socket{conn: conn, answers: make(chan answer, 1), greeted: make(chan struct{}), ended: make(chan struct{})}
			u.run.readers.Go(func() { u.read(s) })
			return s, nil
		}
		if resp == nil || resp.StatusCode != http.StatusServiceUnavailable || try > retries {
			return nil, fmt.Errorf("dial: %w", err)
		}
		u.run.delayed.Add(1)
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		select {
		case <-time.After(time.Duration(max(seconds, 1)) * time.Second):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// read takes in all messages of a socket until it ends.
func (u *user) read(s *socket) {
	defer close(s.ended)
	buf, _ := u.run.texts.Get().(*bytes.Buffer)
	defer u.run.texts.Put(buf)
	for {
		_, r, err := s.conn.NextReader()
		if err == nil {
			buf.Reset()
			_, err = buf.ReadFrom(r)
		}
		if err == nil {
			err = u.take(s, buf.Bytes())
		}
		if err != nil {
			s.err = err
			return
		}
	}
}

// kindOf is the type of a message of the server, which writes it first.
func kindOf(text []byte) string {
	const start = `{"type":"`
	rest, ok := bytes.CutPrefix(text, []byte(start))
	end := bytes.IndexByte(rest, '"')
	if !ok || end < 0 {
		return ""
	}
	return string(rest[:end])
}

// take handles one message. Events are counted, not decoded: there are millions.
func (u *user) take(s *socket, text []byte) error {
	switch kind := kindOf(text); kind {
	case "currentlyInChannel":
		u.pictures.Add(1)
		u.pictureBytes.Add(uint64(len(text)))
		users, producers := countPicture(text)
		u.shown.Store(int64(users)<<32 | int64(producers))
		u.stale.Store(false)
		if u.wants.Load() > 0 {
			return u.sawProducers(text)
		}
	case "available-producers":
		u.pictures.Add(1)
		u.pictureBytes.Add(uint64(len(text)))
	case "new-producer", "producer-closed":
		u.events.Add(1)
		u.stale.Store(true)
	case "ping":
		return s.write(map[string]string{"type": "pong"})
	case "connected":
		close(s.greeted)
	case "transport-closed", "force_disconnect", "server-shutdown", "server-restarting":
		return fmt.Errorf("%s: %w", text, errs.ErrClosed)
	default:
		var a answer
		if err := json.Unmarshal(text, &a); err != nil {
			return fmt.Errorf("decode %s: %w", kind, err)
		}
		if a.RequestID != "" && a.Type != "produced" {
			s.answers <- a
		}
	}
	return nil
}

// countPicture counts the ids of a picture without decoding it.
func countPicture(text []byte) (users, producers int) {
	_, rest, _ := bytes.Cut(text, []byte(`"inRoom":[`))
	inRoom, rest, _ := bytes.Cut(rest, []byte(`]`))
	_, rest, _ = bytes.Cut(rest, []byte(`"producers":[`))
	list, _, _ := bytes.Cut(rest, []byte(`]`))
	return countList(inRoom), countList(list)
}

func countList(list []byte) int {
	if len(list) == 0 {
		return 0
	}
	return bytes.Count(list, []byte(`,`)) + 1
}

func (s *socket) write(m any) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("set write deadline: %w", err)
	}
	if err := s.conn.WriteJSON(m); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// ask sends a request and decodes the data of its answer.
func (s *socket) ask(ctx context.Context, request string, data, into any) error {
	s.asked++
	id := strconv.Itoa(s.asked)
	if err := s.write(map[string]any{"type": request, "requestId": id, "data": data}); err != nil {
		return err
	}
	for {
		select {
		case a := <-s.answers:
			switch {
			case a.RequestID != id:
				continue
			case a.Type == "error":
				return fmt.Errorf("%s refused: %s: %w", request, a.Data, errs.ErrDenied)
			case into == nil:
				return nil
			}
			return json.Unmarshal(a.Data, into)
		case <-s.ended:
			return fmt.Errorf("%s: socket ended: %w", request, s.err)
		case <-ctx.Done():
			return fmt.Errorf("%s: no answer: %w", request, ctx.Err())
		}
	}
}

// awaitGreeting waits for `connected`.
func (s *socket) awaitGreeting(ctx context.Context) error {
	select {
	case <-s.greeted:
		return nil
	case <-s.ended:
		return fmt.Errorf("not greeted: %w", s.err)
	case <-ctx.Done():
		return fmt.Errorf("not greeted: %w", ctx.Err())
	}
}

// close ends the socket and waits for its reader.
func (s *socket) close() {
	_ = s.conn.Close()
	for {
		select {
		case <-s.answers: // nobody waits for it
		case <-s.ended:
			return
		}
	}
}
