package e2e

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
)

// inRoom is a check for eventually: the newest picture of the channel.
func (c *socket) inRoom(producers int, users ...string) func() error {
	return func() error {
		last := lastOf(c, "currentlyInChannel")
		got := slices.Sorted(slices.Values(last.InRoom))
		if !slices.Equal(got, users) || len(last.Producers) != producers || len(last.ProducerUserMap) != producers {
			return fmt.Errorf("the channel is %s, want %v and %d producers", last.raw, users, producers)
		}
		return nil
	}
}

// withoutSocket checks that the supervisor has noticed the loss of a user's sockets.
func (s *server) withoutSocket(t *testing.T, user, channel string) func() error {
	t.Helper()
	client := s.admin(t)
	return func() error {
		got, err := client.GetChannel(t.Context(), &adminv1.GetChannelRequest{ChannelId: channel})
		if err != nil {
			return err
		}
		for _, u := range got.GetUsers() {
			if u.GetUserId() == user && u.GetSockets() == 0 {
				return nil
			}
		}
		return fmt.Errorf("the users of %s are %v, want %s without a socket", channel, got.GetUsers(), user)
	}
}

// TestEvents covers what a socket is told unasked.
func TestEvents(t *testing.T) {
	s := startServer(t, settings{})
	t.Run("joining", func(t *testing.T) {
		a := s.enter(t, "ann", "join")
		first, second := a.all()[0], a.all()[1]
		if first.Type != "currentlyInChannel" || len(first.InRoom) != 1 || first.Producers == nil || first.ProducerUserMap == nil || first.Data != nil {
			t.Errorf("first message %s", first.raw)
		}
		var got struct{ ChannelID, UserID, Message string }
		second.decode(t, &got)
		if second.Type != "connected" || got.ChannelID != "join" || got.UserID != "ann" || got.Message != "dspeak socket connection successful" {
			t.Errorf("second message %s", second.raw)
		}
		s.enter(t, "bob", "join")
		eventually(t, answerTimeout, a.inRoom(0, "ann", "bob"))
		s.enter(t, "cid", "another channel")
		if err := a.inRoom(0, "ann", "bob")(); err != nil {
			t.Error(err)
		}
	})
	t.Run("two sockets of one user", func(t *testing.T) {
		a := s.enter(t, "ann", "twice")
		one, two := s.enter(t, "bob", "twice"), s.enter(t, "bob", "twice")
		one.close()
		two.must(t, "ping", nil, "pong")
		s.enter(t, "cid", "twice") // makes a fresh picture
		eventually(t, answerTimeout, a.inRoom(0, "ann", "bob", "cid"))
		two.close()
		eventually(t, grace+answerTimeout, a.inRoom(0, "ann", "cid"))
	})
}

// TestGrace covers a session without a socket.
func TestGrace(t *testing.T) {
	s := startServer(t, settings{})
	a, b := s.enter(t, "ann", "grace"), s.enter(t, "bob", "grace")
	send := b.createTransport(t, "send")
	producer := b.produce(t, send.ID, "0", 1)
	t.Run("the session comes back whole", func(t *testing.T) {
		b.close()
		eventually(t, answerTimeout, s.withoutSocket(t, "bob", "grace")) // else the new socket may well be the second one
		b = s.enter(t, "bob", "grace")
		var got struct{ Message string }
		messageOf(t, b, "connected").decode(t, &got)
		if got.Message == "dspeak socket connection successful" {
			t.Errorf("the greeting does not tell of a restored session: %q", got.Message)
		}
		if last := lastOf(b, "currentlyInChannel"); !slices.Equal(last.Producers, []string{producer}) {
			t.Errorf("the producer is gone: %s", last.raw)
		}
		b.must(t, "connect-transport", map[string]any{"transportId": send.ID, "dtlsParameters": someFingerprint()}, "transport-connected")
		b.must(t, "pause", map[string]any{"producerId": producer}, "paused")
		if closed := lastOf(a, "producer-closed"); closed.Type != "" {
			t.Errorf("ann was told %s", closed.raw)
		}
	})
	t.Run("after the grace all is closed", func(t *testing.T) {
		left := time.Now()
		b.close()
		eventually(t, grace+answerTimeout, a.inRoom(0, "ann"))
		if kept := time.Since(left); kept < grace-500*time.Millisecond {
			t.Errorf("the session was kept for %v only", kept)
		}
		a.expect(t, "producer-closed")
	})
}

// TestHeartbeat has one client that says nothing and one that does.
func TestHeartbeat(t *testing.T) {
	s := startServer(t, settings{env: map[string]string{
		"SFU_HEARTBEAT_INTERVAL_MS": "200", "SFU_HEARTBEAT_MISS_THRESHOLD_MS": "1200", "SFU_GRACE_MS": "300",
	}})
	silent, alive := s.enter(t, "silent", "heart"), s.enter(t, "alive", "heart")
	silent.conn.SetPingHandler(func(string) error { return nil })
	done := make(chan struct{})
	go func() {
		defer close(done)
		silent.closed(t)
	}()
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for waiting := true; waiting; {
		select {
		case <-done:
			waiting = false
		case <-tick.C:
			alive.must(t, "ping", nil, "pong")
		}
	}
	eventually(t, answerTimeout, alive.inRoom(0, "alive"))
}

// TestFamilies joins over IPv6 and with a forced family.
func TestFamilies(t *testing.T) {
	for _, row := range []struct{ name, host, preferred, want string }{
		{"a client over IPv4 gets IPv4", "127.0.0.1", "", "127.0.0.1"},
		{"a client over IPv6 gets IPv6", "::1", "", "::1"},
		{"IPv6 is forced", "127.0.0.1", "ipv6", "::1"},
		{"IPv4 is forced", "::1", "ipv4", "127.0.0.1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := startServer(t, settings{host: row.host, env: map[string]string{"SFU_PREFERRED_FAMILY": row.preferred}})
			params := s.enter(t, "u", "c").createTransport(t, "send")
			if len(params.IceCandidates) == 0 {
				t.Error("no candidates")
			}
			six := row.want == "::1"
			for _, candidate := range params.IceCandidates {
				if isSix := slices.Contains([]byte(candidate.Address), ':'); isSix != six {
					t.Errorf("candidate %s, want the family of %s", candidate.Address, row.want)
				}
			}
			if !slices.ContainsFunc(params.IceCandidates, func(c iceCandidate) bool { return c.Address == row.want }) {
				t.Errorf("candidates %v lack %s", params.IceCandidates, row.want)
			}
		})
	}
}

// TestAnnouncedPort announces another port and a host name.
func TestAnnouncedPort(t *testing.T) {
	s := startServer(t, settings{env: map[string]string{"SFU_IPV4": "localhost", "SFU_IPV4_PORT": "40400"}})
	params := s.enter(t, "u", "c").createTransport(t, "send")
	if !slices.ContainsFunc(params.IceCandidates, func(c iceCandidate) bool { return c.Address == "127.0.0.1" && c.Port == 40400 }) {
		t.Errorf("candidates %+v, want 127.0.0.1 and port 40400", params.IceCandidates)
	}
}

// TestHurriedStop stops a supervisor whose worker does not end: the second signal
// waits for nobody.
func TestHurriedStop(t *testing.T) {
	s := startServer(t, settings{env: map[string]string{"DSPEAK_STOP_TIMEOUT": "10m"}})
	workers, err := s.admin(t).ListWorkers(t.Context(), &adminv1.ListWorkersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	c := s.enter(t, "ann", "hurry")
	if err := syscall.Kill(int(workers.GetWorkers()[0].GetPid()), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.closed(t) // the stop is under way
	select {
	case <-s.exited:
		t.Fatal("it did not wait for its worker")
	default:
	}
	s.stop(t) // sends the second signal, and looks for what is left
}

// TestPlannedStop says what clients and the main server hear of it.
func TestPlannedStop(t *testing.T) {
	main := newMainServer(t)
	s := startServer(t, settings{main: main})
	a := s.enter(t, "ann", "stop")
	a.createTransport(t, "send")
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Reason string
		Eta    *float64
	}
	a.expect(t, "server-shutdown").decode(t, &got)
	if got.Reason == "" || got.Eta == nil {
		t.Errorf("server-shutdown says %+v", got)
	}
	if code, text := a.closed(t); code != websocket.CloseGoingAway && code != websocket.CloseServiceRestart && code != websocket.CloseNormalClosure {
		t.Errorf("closed with %d %q", code, text)
	}
	eventually(t, answerTimeout, main.got("sfu_status of the stop", func(m message) bool {
		return m.Type == "sfu_status" && m.Status == "error"
	}))
}
