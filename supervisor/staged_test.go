package supervisor

import (
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/signaling"
	"github.com/dspeak/sfu/signaling/wire"
	"github.com/dspeak/sfu/supervisor/process"
)

func staged(reason string) string {
	return `{"channelId":"c","event":"staged-leave","reason":"` + reason + `","type":"media_presence","userId":"bob"}`
}

// TestStagedLeaveReasons ends a user's last socket in every way that leaves a grace.
func TestStagedLeaveReasons(t *testing.T) {
	for _, row := range []struct {
		name   string
		limits signaling.Limits
		end    func(*testing.T, *socket)
		want   string
	}{
		{"closed", signaling.Limits{}, func(t *testing.T, s *socket) {
			t.Helper()
			if err := s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(wire.CloseNormal, "bye"), time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
		}, "client-close"},
		{"cut", signaling.Limits{}, func(_ *testing.T, s *socket) { _ = s.conn.NetConn().Close() }, "client-close"},
		{"oversized", signaling.Limits{MessageBytes: 512}, func(_ *testing.T, s *socket) { s.say("ping", `"`+strings.Repeat("x", 1024)+`"`) }, "client-close"},
		{"flood", signaling.Limits{Rate: 1, Burst: 2}, func(_ *testing.T, s *socket) {
			for range 4 {
				_ = s.conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"pong"}`))
			}
		}, "client-close"},
		{"silent", signaling.Limits{HeartbeatTimeout: 50 * time.Millisecond, HeartbeatInterval: time.Hour}, func(*testing.T, *socket) {}, "heartbeat-timeout"},
	} {
		t.Run(row.name, func(t *testing.T) {
			l := newLab(t, 1, func(l *lab) { l.limits = row.limits })
			b := l.join("bob", "c")
			row.end(t, b)
			await(t, "the leave is staged", func() bool { return l.main.heard(`"staged-leave"`) })
			if !l.main.heard(staged(row.want)) {
				t.Errorf("told %q", l.main.take())
			}
		})
	}
}

// TestMediaFailed gives a user's transports up: the main server is told once no
// connected one is left, and when there is one again.
func TestMediaFailed(t *testing.T) {
	l := newLab(t, 1)
	b := l.join("bob", "c")
	send, recv, unused := b.transport(), b.transport(), b.transport()
	b.connect(send)
	b.connect(recv)
	l.main.take()
	r := l.backend.registry
	r.mu.Lock()
	router := string(r.channels["c"].router.id)
	r.mu.Unlock()
	fail := func(transport, reason string) {
		l.events(process.Event{Kind: process.EventWorker, Generation: 1, Epoch: 1, Worker: &workerv1.WatchEventsResponse{
			Event: &workerv1.WatchEventsResponse_TransportClosed{TransportClosed: &workerv1.TransportClosedEvent{
				RouterId: router, TransportId: transport, Reason: reason,
			}},
		}})
	}
	fail(send, "dtls failed")
	wantTold(t, l.main)
	fail(recv, "dtls failed")
	wantTold(t, l.main, staged("dtls-failed"))
	fail(unused, "dtls failed")
	wantTold(t, l.main)

	again := b.transport()
	b.connect(again)
	wantTold(t, l.main, `{"channelId":"c","event":"rejoin","reason":"media connected","type":"media_presence","userId":"bob"}`)
	fail(again, "ice consent expired")
	wantTold(t, l.main)

	last := b.transport()
	b.connect(last)
	l.leave(b)
	wantTold(t, l.main, staged("client-close"))
	fail(last, "dtls failed") // the leave is staged already
	wantTold(t, l.main)
}

// TestKickWithoutReason removes users for no reason.
func TestKickWithoutReason(t *testing.T) {
	for _, reason := range []string{"", " \t"} {
		l := newLab(t, 1)
		b := l.join("bob", "c")
		if err := l.backend.ForceDisconnect(t.Context(), "bob", "c", reason); err != nil {
			t.Fatal(err)
		}
		all, code := b.ended()
		if got := all[len(all)-1]; got.Type != "force_disconnect" || got.Reason != "disconnected by server" || code != wire.ClosePolicy {
			t.Errorf("told %s, closed with %d", got.raw, code)
		}
	}
}
