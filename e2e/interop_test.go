package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

const interopChannel = "interop"

var timestampForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)

// ofBob is a check for a media_presence or media_producer message.
func ofBob(kind, event string) func(message) bool {
	return func(m message) bool {
		at, _ := m.Timestamp.(string)
		return m.Type == kind && m.Event == event && m.UserID == "bob" && m.ChannelID == interopChannel && timestampForm.MatchString(at)
	}
}

// TestInterop covers the messages to the main server.
func TestInterop(t *testing.T) {
	main := newMainServer(t)
	s := startServer(t, settings{main: main})
	has := func(t *testing.T, what string, fits func(message) bool) {
		t.Helper()
		eventually(t, grace+answerTimeout, main.got(what, fits))
	}
	synced := func(channel string, users ...string) func(message) bool {
		return func(m message) bool {
			return m.Type == "channel_presence_sync" && m.ChannelID == channel && slices.Equal(slices.Sorted(slices.Values(m.UserIDs)), users)
		}
	}
	has(t, "status", func(m message) bool { return m.Type == "sfu_status" && m.Status == "ok" })

	const channel = interopChannel
	b := s.enter(t, "bob", channel)
	t.Run("presence", func(t *testing.T) {
		has(t, "join", ofBob("media_presence", "join"))
		has(t, "sync", synced(channel, "bob"))
		transport := b.createTransport(t, "send")
		producer := b.produce(t, transport.ID, "0", 1)
		has(t, "start_produce", ofBob("media_presence", "start_produce"))
		has(t, "producer", func(m message) bool {
			return ofBob("media_producer", "add")(m) && m.ProducerID == producer
		})
		b.must(t, "close-producer", map[string]any{"producerId": producer}, "producer-closed")
		has(t, "stop_produce", ofBob("media_presence", "stop_produce"))
		has(t, "removed producer", func(m message) bool {
			return ofBob("media_producer", "remove")(m) && m.ProducerID == producer
		})
	})
	whole := t
	t.Run("a session leaves and returns", func(t *testing.T) {
		b.close()
		has(t, "staged-leave", func(m message) bool {
			return ofBob("media_presence", "staged-leave")(m) && m.Reason == "client-close"
		})
		b = s.enter(whole, "bob", channel) // later cases use it, too
		has(t, "rejoin", ofBob("media_presence", "rejoin"))
	})
	t.Run("the main server was away", func(t *testing.T) {
		gone := s.enter(t, "cid", "emptied")
		has(t, "sync", synced("emptied", "cid"))
		main.cut()
		main.forget()
		gone.close()
		has(t, "status", func(m message) bool { return m.Type == "sfu_status" })
		has(t, "sync", synced(channel, "bob"))
		has(t, "sync of the emptied channel", synced("emptied"))
	})
	t.Run("strange input", func(t *testing.T) {
		main.forget()
		main.send(t, "no JSON")
		for _, row := range []struct{ text, want string }{
			{`{}`, "Invalid message format: missing type"},
			{`{"type":"hello"}`, "Unknown message type: hello"},
			{`{"type":"force_disconnect","userId":"bob"}`, ""},
			{`{"type":"force_disconnect","channelId":7}`, ""},
		} {
			main.forget()
			main.send(t, row.text)
			has(t, "answer to "+row.text, func(m message) bool {
				return m.Type == "error" && m.text() != "" && (row.want == "" || m.text() == row.want)
			})
		}
		b.must(t, "ping", nil, "pong")
	})
	t.Run("force_disconnect without a reason", func(t *testing.T) {
		for i, reason := range []string{``, `,"reason":null`, `,"reason":""`, `,"reason":7`, `,"reason":{"a":1}`} {
			user := fmt.Sprintf("user-%d", i)
			c := s.enter(t, user, channel)
			main.send(t, fmt.Sprintf(`{"type":"force_disconnect","userId":%q,"channelId":%q%s}`, user, channel, reason))
			if got := c.expect(t, "force_disconnect"); got.Reason != "disconnected by server" {
				t.Errorf("with %q: %s", reason, got.raw)
			}
		}
	})
	t.Run("force_disconnect", func(t *testing.T) { testForceDisconnect(t, s, main, b) })
}

func testForceDisconnect(t *testing.T, s *server, main *mainServer, b *socket) {
	t.Helper()
	const channel = interopChannel
	witness := s.enter(t, "witness", channel)
	b.produce(t, b.createTransport(t, "send").ID, "0", 9)
	eventually(t, answerTimeout, witness.inRoom(1, "bob", "witness"))
	text, err := json.Marshal(map[string]string{"type": "force_disconnect", "userId": "bob", "channelId": channel, "reason": "be nice"})
	if err != nil {
		t.Fatal(err)
	}
	sent := time.Now()
	main.send(t, string(text))
	got := b.expect(t, "force_disconnect")
	if took := time.Since(sent); took > 150*time.Millisecond {
		t.Errorf("the kick took %v", took)
	}
	if got.Reason != "be nice" {
		t.Errorf("got %s", got.raw)
	}
	if code, _ := b.closed(t); code != websocket.ClosePolicyViolation {
		t.Errorf("closed with %d", code)
	}
	eventually(t, grace/2, witness.inRoom(0, "witness")) // there is no grace
	_, response, err := s.dialRaw(t, "?auth=bob&channelId="+interopChannel)
	if err == nil || response == nil || response.StatusCode != http.StatusForbidden {
		t.Errorf("a kicked user dials: %v %v, want 403", response, err)
	}
	s.enter(t, "bob", "another channel")
}
