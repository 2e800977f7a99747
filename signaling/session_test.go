package signaling

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/signaling/wire"
)

// validator is a Validator made of a function.
type validator func(ctx context.Context, credential string, channelID ident.ChannelID) (ident.UserID, error)

func (v validator) Validate(ctx context.Context, credential string, channelID ident.ChannelID) (ident.UserID, error) {
	return v(ctx, credential, channelID)
}

// no is a refusal by the main server.
type no int

func (n no) Error() string      { return "no" }
func (n no) RefusalStatus() int { return int(n) }

func TestGreetingAndRequests(t *testing.T) {
	h := start(t, Config{})
	c := h.dial(t, "ann", "channel")
	if a := c.expect(t, "currentlyInChannel"); a.Data != nil {
		t.Errorf("data %s", a.Data)
	}
	var greeting struct{ ChannelID, UserID, Message string }
	if a := c.expect(t, "connected"); json.Unmarshal(a.Data, &greeting) != nil || greeting.UserID != "ann" || greeting.ChannelID != "channel" || greeting.Message != wire.MessageConnected {
		t.Errorf("%+v", greeting)
	}
	for i := range 50 {
		kind := websocket.TextMessage + i%2 // JSON in binary frames counts, too
		if err := c.WriteMessage(kind, fmt.Appendf(nil, `{"type":"get-rtp-capabilities","requestId":%d}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 {
		if a := c.expect(t, "rtp-capabilities-ack"); string(a.RequestID) != strconv.Itoa(i) {
			t.Fatalf("answer %s in place of %d", a.RequestID, i)
		}
	}
	_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4001, "bye"), time.Now().Add(patience))
	if code, _ := c.closed(t); code != 4001 {
		t.Errorf("the close frame is echoed with %d", code)
	}
	if got := h.backend.cause(t); got != (wire.CloseCause{Cause: wire.CauseClient, Code: 4001, Reason: "bye"}) {
		t.Errorf("%+v", got)
	}
}

func TestPing(t *testing.T) {
	b := newBackend()
	busy, free := make(chan struct{}), make(chan struct{})
	b.handle = func(context.Context, *Session, wire.Request) error {
		close(busy)
		<-free
		return nil
	}
	h := start(t, Config{Backend: b})
	c := h.enter(t, "ann")
	c.send(t, `{"type":"get-rtp-capabilities"}`)
	<-busy
	for id, want := range map[string]string{`,"requestId":{"a":1}`: `{"a":1}`, ``: `null`} {
		before := time.Now().UnixMilli()
		c.send(t, `{"type":"ping"`+id+`}`)
		if a := c.expect(t, "pong"); string(a.RequestID) != want || a.Timestamp < before || a.Timestamp > time.Now().UnixMilli() {
			t.Errorf("%+v", a)
		}
	}
	c.send(t, `{"type":"pong"}`)
	close(free)
	c.send(t, `{"type":"ping"}`)
	c.expect(t, "pong")
	_ = c.Close()
	if got := b.cause(t); got.Cause != wire.CauseLost {
		t.Errorf("%+v", got)
	}
}

func TestErrors(t *testing.T) {
	const secret = "the password of the database"
	b := newBackend()
	b.handle = func(_ context.Context, _ *Session, req wire.Request) error {
		switch p := req.Data.(type) {
		case wire.Consume:
			if p.ProducerID == "panic" {
				panic("a bug")
			}
			return wire.ErrConsumeNotFound()
		case wire.CreateTransport:
			return fmt.Errorf("create transport: %w", errs.ErrUnavailable)
		case wire.Produce:
			return wire.ErrProduceFailed(errors.New("no codecs"))
		}
		return errors.New(secret)
	}
	h := start(t, Config{Backend: b})
	other := h.enter(t, "bob")
	c := h.enter(t, "ann")
	for _, row := range []struct{ name, text, want, details string }{
		{"not JSON", `{"type":`, "Malformed JSON in message", ""},
		{"no object", `[]`, "Invalid message format: missing type", ""},
		{"unknown", `{"type":"x","requestId":"r"}`, "Unknown message type: x", ""},
		{"a wire error", `{"type":"consume","requestId":"r","data":{"producerId":"p"}}`, "Cannot consume this producer: producer not found", ""},
		{"a wire error with details", `{"type":"produce","requestId":"r"}`, "Failed to produce media", "no codecs"},
		{"a sentinel", `{"type":"create-transport","requestId":"r"}`, "Router not ready", ""},
		{"anything", `{"type":"get-rtp-capabilities","requestId":"r"}`, "Internal server error", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			c.send(t, row.text)
			a := c.expect(t, "error")
			want := ""
			if strings.Contains(row.text, "requestId") {
				want = `"r"`
			}
			if a.text() != row.want || a.Details != row.details || string(a.RequestID) != want {
				t.Errorf("%+v %s", a, a.Data)
			}
		})
	}
	if !strings.Contains(h.log.String(), secret) {
		t.Error("the unknown error is not logged")
	}
	if !strings.Contains(h.log.String(), "Malformed JSON") {
		t.Error("malformed JSON is not logged")
	}
	t.Run("a panic ends its session only", func(t *testing.T) {
		c.send(t, `{"type":"consume","data":{"producerId":"panic"}}`)
		if code, _ := c.closed(t); code != wire.CloseInternalError {
			t.Errorf("closed with %d", code)
		}
		if got := b.cause(t); got.Cause != wire.CauseFault {
			t.Errorf("%+v", got)
		}
		eventually(t, "the stack is logged", func() bool {
			log := h.log.String()
			return strings.Contains(log, "a bug") && strings.Contains(log, "session_test.go")
		})
		other.send(t, `{"type":"ping"}`)
		other.expect(t, "pong")
	})
}

func TestValidation(t *testing.T) {
	for _, row := range []struct {
		name     string
		validate validator
		limit    time.Duration
		want     string
		status   int
	}{
		{name: "a status", validate: func(context.Context, string, ident.ChannelID) (ident.UserID, error) {
			return "", fmt.Errorf("validate: %w", no(401))
		}, want: "Channel validation failed", status: 401},
		{name: "no media channel", validate: func(context.Context, string, ident.ChannelID) (ident.UserID, error) {
			return "", no(0)
		}, want: "Channel is not a media channel"},
		{name: "away", validate: func(context.Context, string, ident.ChannelID) (ident.UserID, error) {
			return "", errs.ErrUnavailable
		}, want: "Backend validation error"},
		{name: "slow", limit: 30 * time.Millisecond, validate: func(ctx context.Context, _ string, _ ident.ChannelID) (ident.UserID, error) {
			<-ctx.Done()
			return "", ctx.Err()
		}, want: "Backend validation error"},
		{name: "nobody", validate: func(context.Context, string, ident.ChannelID) (ident.UserID, error) {
			return "", nil
		}, want: "Backend validation error"},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := start(t, Config{Validator: row.validate, Limits: Limits{ValidationTimeout: row.limit}})
			c := h.dial(t, "secret-2", "channel")
			if a := c.expect(t, "error"); a.text() != row.want || a.Status != row.status {
				t.Errorf("got %s %d", a.Data, a.Status)
			}
			if code, _ := c.closed(t); code != wire.ClosePolicy {
				t.Errorf("closed with %d", code)
			}
			if strings.Contains(h.log.String(), "secret-2") {
				t.Error("the credential is in the log")
			}
			if len(h.backend.leaves) != 0 {
				t.Error("a socket left that never joined")
			}
		})
	}
}

func TestMessagesWaitForValidation(t *testing.T) {
	b := newBackend()
	asked := make(chan string, 1)
	proceed := make(chan struct{})
	var admitted []ident.UserID
	b.admit = func(u ident.UserID, _ ident.ChannelID) error {
		admitted = append(admitted, u)
		return nil
	}
	h := start(t, Config{Backend: b, Validator: validator(func(ctx context.Context, credential string, c ident.ChannelID) (ident.UserID, error) {
		asked <- credential + " " + string(c)
		select {
		case <-proceed:
		case <-ctx.Done():
		}
		return "ann", ctx.Err()
	})})
	c := h.dial(t, "secret-3", "channel")
	if got := <-asked; got != "secret-3 channel" {
		t.Errorf("asked with %q", got)
	}
	c.send(t, `{"type":"ping","requestId":1}`)
	c.send(t, `nonsense`)
	c.send(t, `{"type":"get-rtp-capabilities","requestId":2}`)
	close(proceed)
	c.expect(t, "currentlyInChannel")
	c.expect(t, "connected")
	c.expect(t, "pong")
	c.expect(t, "error")
	c.expect(t, "rtp-capabilities-ack")
	s := b.session(t)
	if s.UserID() != "ann" || s.LogUser() != "ann" {
		t.Errorf("user %q, in logs %q", s.UserID(), s.LogUser())
	}
	s.Log().Info("anything")
	if strings.Contains(h.log.String(), "secret-3") {
		t.Error("the credential is in the log")
	}
	if len(admitted) != 2 || admitted[0] != "secret-3" || admitted[1] != "ann" {
		t.Errorf("admission was asked for %v", admitted)
	}
}

func TestAdmitAfterValidation(t *testing.T) {
	b := newBackend()
	b.admit = func(u ident.UserID, _ ident.ChannelID) error {
		if u == "ann" {
			return errs.ErrDenied
		}
		return nil
	}
	h := start(t, Config{Backend: b, Validator: validator(func(context.Context, string, ident.ChannelID) (ident.UserID, error) { return "ann", nil })})
	c := h.dial(t, "x", "channel")
	if a := c.expect(t, "error"); a.Status != 403 {
		t.Errorf("%+v", a)
	}
	if code, _ := c.closed(t); code != wire.ClosePolicy {
		t.Errorf("closed with %d", code)
	}
}

func TestJoinRefused(t *testing.T) {
	b := newBackend()
	b.join = func(context.Context, *Session) error { return errs.ErrUnavailable }
	h := start(t, Config{Backend: b})
	c := h.dial(t, "ann", "channel")
	if a := c.expect(t, "error"); a.text() != "Router not ready" {
		t.Errorf("%s", a.Data)
	}
	c.closed(t)
}

func TestCredentialIsUser(t *testing.T) {
	h := start(t, Config{})
	c := h.enter(t, "secret-4")
	s := h.backend.session(t)
	s.Log().Info("anything")
	c.send(t, "nonsense")
	c.expect(t, "error")
	if s.UserID() != "secret-4" || !strings.HasPrefix(s.LogUser(), "sha256:") || strings.Contains(h.log.String(), "secret-4") {
		t.Errorf("in logs %q:\n%s", s.LogUser(), h.log)
	}
}

func TestHeartbeat(t *testing.T) {
	h := start(t, Config{Limits: Limits{HeartbeatInterval: 30 * time.Millisecond, HeartbeatTimeout: 300 * time.Millisecond}})
	for _, row := range []struct {
		name string
		life func(*client) error // a sign of it, at each of the server's pings
		ends bool
	}{
		{"silent", nil, true},
		{"pings", func(c *client) error { return c.WriteMessage(websocket.TextMessage, []byte(`{"type":"ping"}`)) }, false},
		{"pongs", func(c *client) error { return c.WriteMessage(websocket.TextMessage, []byte(`{"type":"pong"}`)) }, false},
		{"nonsense", func(c *client) error { return c.WriteMessage(websocket.TextMessage, []byte(`x`)) }, false},
		{"control frames", func(c *client) error {
			return c.WriteControl(websocket.PingMessage, []byte("x"), time.Now().Add(patience))
		}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := h.enter(t, "ann")
			began := time.Now()
			for time.Since(began) < time.Second {
				_, message, err := c.ReadMessage()
				if err != nil {
					if !row.ends || !websocket.IsCloseError(err, wire.ClosePolicy) || !strings.Contains(err.Error(), wire.ReasonHeartbeat) {
						t.Error(err)
					}
					if got := h.backend.cause(t); got.Cause != wire.CauseHeartbeat {
						t.Errorf("%+v", got)
					}
					return
				}
				if row.life != nil && strings.Contains(string(message), `"ping"`) {
					if err := row.life(c); err != nil {
						t.Fatal(err)
					}
				}
			}
			if row.ends {
				t.Error("the silent socket lives")
			}
			_ = c.Close()
			h.backend.cause(t)
		})
	}
}

func TestSlowReader(t *testing.T) {
	h := start(t, Config{Limits: Limits{SendQueue: 50, WriteTimeout: 300 * time.Millisecond}})
	c := h.enter(t, "ann")
	s := h.backend.session(t)
	big, err := wire.Encode(wire.ForceDisconnect{Reason: strings.Repeat("x", 1<<20)})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for range 200 {
		s.SendEncoded(big)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("Send blocks: %v", took)
	}
	if got := h.backend.cause(t); got.Cause != wire.CauseSlow || got.Reason != wire.ReasonQueueFull {
		t.Errorf("%+v", got)
	}
	_ = c.Close()
}

func TestWriteTimeout(t *testing.T) {
	h := start(t, Config{Limits: Limits{WriteTimeout: 100 * time.Millisecond, SendQueueBytes: 1 << 30}})
	h.enter(t, "ann")
	h.backend.session(t).Send(wire.ForceDisconnect{Reason: strings.Repeat("x", 16<<20)})
	if got := h.backend.cause(t); got.Cause != wire.CauseSlow || got.Reason != wire.ReasonWriteTimeout {
		t.Errorf("%+v", got)
	}
}

func TestCloseAfterFlush(t *testing.T) {
	h := start(t, Config{})
	c := h.enter(t, "ann")
	s := h.backend.session(t)
	for range 100 {
		s.Send(wire.NewProducer{ProducerID: "p", UserID: "u"})
	}
	s.Send(wire.ForceDisconnect{Reason: "be nice"})
	s.Close(wire.ClosePolicy, strings.Repeat("ä", 100))
	s.Close(wire.CloseNormal, "second")
	s.Send(wire.NewProducer{ProducerID: "late", UserID: "u"})
	for range 100 {
		c.expect(t, "new-producer")
	}
	c.expect(t, "force_disconnect")
	if code, reason := c.closed(t); code != wire.ClosePolicy || reason != strings.Repeat("ä", 61) {
		t.Errorf("closed with %d %q", code, reason)
	}
	if got := h.backend.cause(t); got.Cause != wire.CauseServer {
		t.Errorf("%+v", got)
	}
	h.backend.mu.Lock()
	defer h.backend.mu.Unlock()
	if n := h.backend.leaves[s]; n != 1 {
		t.Errorf("left %d times", n)
	}
}

// TestCloseOfDeafClient has a client that never answers the close frame.
func TestCloseOfDeafClient(t *testing.T) {
	h := start(t, Config{})
	h.enter(t, "ann")
	h.backend.session(t).Close(wire.CloseNormal, "")
	h.backend.cause(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := h.Close(ctx, wire.CloseGoingAway, ""); err != nil {
		t.Error(err)
	}
}

func TestConcurrentSend(t *testing.T) {
	h := start(t, Config{})
	c := h.enter(t, "ann")
	s := h.backend.session(t)
	const senders, each = 8, 100
	for i := range senders {
		go func() {
			for j := range each {
				s.Send(wire.NewProducer{ProducerID: ident.ProducerID(strconv.Itoa(j)), UserID: ident.UserID(strconv.Itoa(i))})
			}
		}()
	}
	next := map[string]int{}
	for range senders * each {
		var got struct{ ProducerID, UserID string }
		if err := json.Unmarshal(c.expect(t, "new-producer").Data, &got); err != nil {
			t.Fatal(err)
		}
		if got.ProducerID != strconv.Itoa(next[got.UserID]) {
			t.Fatalf("sender %s: %s in place of %d", got.UserID, got.ProducerID, next[got.UserID])
		}
		next[got.UserID]++
	}
}
