package supervisor

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/signaling/wire"
)

func wantTold(t *testing.T, m *mainServer, want ...string) {
	t.Helper()
	await(t, "the main server is told", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.told) >= len(want)
	})
	if got := m.take(); !slices.Equal(got, want) {
		t.Fatalf("the main server is told\n%q, want\n%q", got, want)
	}
}

func TestJoin(t *testing.T) {
	l := newLab(t, 1)
	a, first := l.enter("ann", "c")
	wantTypes(t, "ann", first, "currentlyInChannel", "connected")
	if !slices.Equal(first[0].InRoom, []string{"ann"}) || first[0].Producers == nil || first[0].ProducerUserMap == nil {
		t.Fatalf("picture %s", first[0].raw)
	}
	if first[1].field("channelId") != "c" || first[1].field("userId") != "ann" || first[1].field("message") != "dspeak socket connection successful" {
		t.Fatalf("greeting %s", first[1].raw)
	}
	wantTold(t, l.main, `{"channelId":"c","event":"join","type":"media_presence","userId":"ann"}`,
		`{"channelId":"c","type":"channel_presence_sync","userIds":["ann"]}`)
	b := l.join("bob", "c")
	l.join("cid", "elsewhere")
	all := a.drain()
	wantTypes(t, "ann", all, "currentlyInChannel")
	if !slices.Equal(all[0].InRoom, []string{"ann", "bob"}) {
		t.Fatalf("picture %s", all[0].raw)
	}
	wantTypes(t, "bob", b.drain())
	status, channels := l.backend.Snapshot()
	if status.Status != "ok" || len(channels) != 2 {
		t.Fatalf("snapshot %v, %v", status, channels)
	}
}

// present says how many users the channel has, 0 when it is gone.
func (l *lab) present(id ident.ChannelID) int {
	r := l.backend.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if ch := r.channels[id]; ch != nil {
		return len(ch.users)
	}
	return 0
}

// openSockets counts the sockets that have joined and not left.
func (l *lab) openSockets() int {
	r := l.backend.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sessions)
}

// leave ends a socket and waits until the backend knows.
func (l *lab) leave(s *socket) {
	l.t.Helper()
	before := l.openSockets()
	_ = s.conn.Close()
	await(l.t, "the socket has left", func() bool { return l.openSockets() == before-1 })
}

func TestGraceRestores(t *testing.T) {
	l := newLab(t, 1)
	a, b := l.join("ann", "c"), l.join("bob", "c")
	send := b.transport()
	b.connect(send)
	producer := b.produce("")
	recv := a.transport()
	a.connect(recv)
	if got := a.consume(producer); got.Type != "consumer-params" {
		t.Fatal(got.raw)
	}
	a.drain()
	l.main.take()
	l.leave(b)
	wantTold(t, l.main, `{"channelId":"c","event":"staged-leave","reason":"client-close","type":"media_presence","userId":"bob"}`)
	wantTypes(t, "ann", a.drain())
	l.holds(0, [4]int{1, 2, 1, 1})

	b, first := l.enter("bob", "c")
	if !slices.Equal(first[0].Producers, []string{producer}) || first[1].field("message") == "dspeak socket connection successful" {
		t.Fatalf("back: %s, %s", first[0].raw, first[1].raw)
	}
	wantTold(t, l.main, `{"channelId":"c","event":"rejoin","reason":"session restored","type":"media_presence","userId":"bob"}`)
	wantTypes(t, "ann", a.drain(), "currentlyInChannel")
	b.transport()
	b.transport() // the shipped client asks for two, and ignores them
	b.must("pause", fmt.Sprintf(`{"producerId":%q}`, producer), "paused")
	again := b.produce("")
	if on := l.workers[0].producerOn(again); on != send {
		t.Fatalf("without a transport's id it produces on %s, want the user's first, %s", on, send)
	}
	if on := l.workers[0].consumerOn(b.consume(again).field("id")); on[0] != send {
		t.Fatalf("without a transport's id it consumes on %s, want the connected %s", on[0], send)
	}
}

func TestGraceExpires(t *testing.T) {
	l := newLab(t, 1, func(l *lab) { l.backend.grace = 30 * time.Millisecond })
	a, b := l.join("ann", "c"), l.join("bob", "c")
	b.transport()
	b.produce("")
	a.drain()
	l.main.take()
	l.leave(b)
	wantTypes(t, "ann", []message{a.next(), a.next()}, "producer-closed", "currentlyInChannel")
	l.holds(0, [4]int{1, 0, 0, 0})
	for _, part := range []string{`"staged-leave"`, `"event":"remove"`, `"stop_produce"`, `"event":"leave","reason":"grace period over"`, `"userIds":["ann"]`} {
		await(t, part, func() bool { return l.main.heard(part) })
	}
	l.leave(a)
	l.holds(0, [4]int{0, 0, 0, 0}) // the last one takes the router with it
	await(t, "the channel is empty for the main server", func() bool { return l.main.heard(`"userIds":[]`) })
	if n := l.present("c"); n != 0 {
		t.Fatalf("%d users are left", n)
	}
}

func TestTwoSocketsOfOneUser(t *testing.T) {
	l := newLab(t, 1)
	a := l.join("ann", "c")
	one, two := l.join("bob", "c"), l.join("bob", "c")
	wantTypes(t, "ann", a.drain(), "currentlyInChannel")
	firstOfOne, firstOfTwo := one.transport(), two.transport()
	producer := one.produce("")
	if on := l.workers[0].producerOn(producer); on != firstOfOne {
		t.Fatalf("the first socket produces on %s, want its own %s", on, firstOfOne)
	}
	wantTypes(t, "the other socket", two.drain(), "currentlyInChannel", "available-producers")
	if got := two.consume(producer); got.Type != "consumer-params" {
		t.Fatal(got.raw)
	}
	a.drain()
	second := two.produce("")
	if on := l.workers[0].producerOn(second); on != firstOfTwo {
		t.Fatalf("the second socket produces on %s, want its own %s", on, firstOfTwo)
	}
	wantTypes(t, "the former producer's socket", one.drain(), "producer-closed", "currentlyInChannel", "available-producers")
	wantTypes(t, "ann", a.drain(), "producer-closed", "currentlyInChannel", "available-producers", "new-producer")
	l.main.take()
	l.leave(one)
	wantTold(t, l.main)
	two.must("pause", fmt.Sprintf(`{"transportId":%q}`, firstOfOne), "paused") // it is the user's
	wantTypes(t, "ann", a.drain())
	l.leave(two)
	await(t, "the last socket starts the grace", func() bool { return l.main.heard(`"staged-leave"`) })
}

func TestKick(t *testing.T) {
	l := newLab(t, 1)
	l.serve(named{})
	a, b, other := l.join("token-of-ann", "c"), l.join("token-of-bob", "c"), l.join("token-of-bob", "c")
	b.transport()
	producer := b.produce("")
	a.drain()
	other.drain()
	l.main.take()
	if err := l.backend.ForceDisconnect(t.Context(), "bob", "c", "be nice"); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*socket{b, other} {
		all, code := s.ended()
		if code != wire.ClosePolicy {
			t.Fatalf("closed with %d", code)
		}
		wantTypes(t, "bob", all, "force_disconnect")
		if all[0].Reason != "be nice" {
			t.Fatalf("told %s", all[0].raw)
		}
	}
	all := a.drain()
	wantTypes(t, "ann", all, "producer-closed", "currentlyInChannel")
	if !slices.Equal(all[1].InRoom, []string{"ann"}) {
		t.Fatalf("picture %s", all[1].raw)
	}
	l.holds(0, [4]int{1, 0, 0, 0})
	wantTold(t, l.main, `{"channelId":"c","event":"remove","producerId":"`+producer+`","type":"media_producer","userId":"bob"}`,
		`{"channelId":"c","event":"stop_produce","type":"media_presence","userId":"bob"}`,
		`{"channelId":"c","event":"leave","reason":"be nice","type":"media_presence","userId":"bob"}`,
		`{"channelId":"c","type":"channel_presence_sync","userIds":["ann"]}`)

	if _, resp, err := l.dial("token-of-bob", "c"); err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
		t.Fatalf("the same credential again: %v, %v, want 403", resp, err)
	}
	s, _, err := l.dial("other-of-bob", "c")
	if err != nil {
		t.Fatal(err)
	}
	if all, _ := s.ended(); len(all) != 1 || all[0].Type != "error" || all[0].Status != http.StatusForbidden {
		t.Fatalf("another credential: %v", all)
	}
	l.join("token-of-bob", "elsewhere")
	r := l.backend.registry
	r.mu.Lock()
	for key := range r.kicked {
		r.kicked[key] = time.Now().Add(-time.Second)
	}
	r.mu.Unlock()
	l.join("token-of-bob", "c")
}

func TestKickOfSomebodyWhoIsAway(t *testing.T) {
	l := newLab(t, 1)
	s := l.join("bob", "c")
	s.transport()
	l.leave(s)
	if n := l.backend.kick(t.Context(), "bob", "c", ""); n != 0 {
		t.Fatalf("%d sockets closed", n)
	}
	l.holds(0, [4]int{0, 0, 0, 0})
	if _, resp, err := l.dial("bob", "c"); err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
		t.Fatalf("back within the cooldown: %v, %v", resp, err)
	}
	if n := l.backend.kick(t.Context(), "nobody", "nowhere", ""); n != 0 {
		t.Fatalf("%d sockets closed", n)
	}
}

// TestKickOfANamedUserWhoIsAway: the client dials with the same credential again, and
// gives up only when the upgrade itself is refused.
func TestKickOfANamedUserWhoIsAway(t *testing.T) {
	l := newLab(t, 1)
	l.serve(named{})
	l.leave(l.join("token-of-bob", "c"))
	l.backend.kick(t.Context(), "bob", "c", "")
	if _, resp, err := l.dial("token-of-bob", "c"); err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
		t.Fatalf("back within the cooldown: %v, %v", resp, err)
	}
	l.join("token-of-bob", "elsewhere")
}

// TestKickDuringARequest ends a user while a worker makes an object for it.
func TestKickDuringARequest(t *testing.T) {
	for _, method := range []string{"Produce", "Consume", "CreateTransport"} {
		t.Run(method, func(t *testing.T) {
			l := newLab(t, 1)
			a, b := l.join("ann", "c"), l.join("bob", "c")
			a.transport()
			spoken := a.produce("")
			b.transport()
			reached, release := make(chan struct{}), make(chan struct{})
			l.workers[0].hooks(nil, func(_ context.Context, call string) error {
				if call == method {
					close(reached)
					<-release
				}
				return nil
			})
			switch method {
			case "Produce":
				b.say("produce", fmt.Sprintf(`{"kind":"audio","rtpParameters":%s}`, rtp))
			case "Consume":
				b.say("consume", fmt.Sprintf(`{"producerId":%q,"rtpCapabilities":%s}`, spoken, caps))
			default:
				b.say("create-transport", "")
			}
			<-reached
			l.backend.kick(t.Context(), "bob", "c", "now")
			close(release)
			l.holds(0, [4]int{1, 1, 1, 0})
			if n := l.present("c"); n != 1 {
				t.Fatalf("%d users are left", n)
			}
		})
	}
}

// TestSocketEndsDuringConsume: the client has not learned of its consumer, so that it
// can ask again.
func TestSocketEndsDuringConsume(t *testing.T) {
	l := newLab(t, 1)
	a, b := l.join("ann", "c"), l.join("bob", "c")
	a.transport()
	spoken := a.produce("")
	recv := b.transport()
	b.connect(recv)
	reached, release := make(chan struct{}), make(chan struct{})
	l.workers[0].hooks(nil, func(_ context.Context, call string) error {
		if call == "Consume" {
			close(reached)
			<-release
		}
		return nil
	})
	b.say("consume", fmt.Sprintf(`{"producerId":%q,"rtpCapabilities":%s}`, spoken, caps))
	<-reached
	_ = b.conn.Close()
	<-l.lastRequest().Done()
	close(release)
	await(t, "the socket has left", func() bool { return l.openSockets() == 1 })
	l.workers[0].hooks(nil, nil)
	l.holds(0, [4]int{1, 2, 1, 0})
	back := l.join("bob", "c")
	if got := back.consume(spoken); got.Type != "consumer-params" {
		t.Fatalf("asked again: %s", got.raw)
	}
}
