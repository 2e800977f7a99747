package signaling

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/dspeak/sfu/signaling/wire"
)

func TestOversized(t *testing.T) {
	h := start(t, Config{Limits: Limits{MessageBytes: 1000, CloseTimeout: patience}})
	c := h.enter(t, "ann")
	fits := `{"type":"get-rtp-capabilities","x":"` + strings.Repeat("x", 900) + `"}`
	c.send(t, fits+strings.Repeat(" ", 1000-len(fits)))
	c.expect(t, "rtp-capabilities-ack")
	c.send(t, strings.Repeat(" ", 1<<20))
	if code, reason := c.closed(t); code != wire.ClosePolicy || reason != wire.ReasonOversized {
		t.Errorf("closed with %d %q", code, reason)
	}
	if got := h.backend.cause(t); got.Cause != wire.CauseOversized {
		t.Errorf("%+v", got)
	}
}

func TestFlood(t *testing.T) {
	for _, row := range []struct {
		name   string
		limits Limits
		send   func(*client) error
		reason string
	}{
		{"messages", Limits{Rate: 1, Burst: 20}, func(c *client) error {
			return c.WriteMessage(websocket.TextMessage, []byte(`{"type":"ping"}`))
		}, wire.ReasonRate},
		{"large messages", Limits{Rate: 1, Burst: 20}, func(c *client) error {
			return c.WriteMessage(websocket.TextMessage, make([]byte, 60<<10))
		}, wire.ReasonRate},
		{"control frames", Limits{Rate: 1, Burst: 20}, func(c *client) error {
			return c.WriteControl(websocket.PingMessage, nil, time.Now().Add(patience))
		}, wire.ReasonRate},
		{"requests that wait", Limits{PendingRequests: 20}, func(c *client) error {
			return c.WriteMessage(websocket.TextMessage, []byte(`{"type":"get-rtp-capabilities"}`))
		}, wire.ReasonPending},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBackend()
			b.handle = func(ctx context.Context, _ *Session, _ wire.Request) error {
				<-ctx.Done()
				return ctx.Err()
			}
			h := start(t, Config{Backend: b, Limits: row.limits})
			c := h.enter(t, "ann")
			for range 200 {
				if err := row.send(c); err != nil {
					break // the server has closed
				}
			}
			if code, reason := c.closed(t); code != wire.ClosePolicy || reason != row.reason {
				t.Errorf("closed with %d %q", code, reason)
			}
			if got := b.cause(t); got.Cause != wire.CauseFlood {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestJoinOfFullChannel sends what the shipped client does when it enters a channel of 100.
func TestJoinOfFullChannel(t *testing.T) {
	h := start(t, Config{})
	c := h.enter(t, "ann")
	consume := `{"type":"consume","data":{"producerId":"p","rtpCapabilities":{"codecs":["` + strings.Repeat("x", 8000) + `"]}}}`
	const requests = 600
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range requests {
			if c.WriteMessage(websocket.TextMessage, []byte(consume)) != nil {
				return
			}
		}
	}()
	for range requests {
		c.expect(t, "rtp-capabilities-ack")
	}
	<-done
}
