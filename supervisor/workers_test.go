package supervisor

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/supervisor/process"
)

// slotOf is the worker that the channel is on.
func (l *lab) slotOf(id ident.ChannelID) ident.Slot {
	l.t.Helper()
	r := l.backend.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	ch := r.channels[id]
	if ch == nil || ch.router == nil {
		l.t.Fatalf("channel %s is on no worker", id)
	}
	return ch.router.slot
}

func TestPlacement(t *testing.T) {
	l := newLab(t, 3)
	l.pool.change(0, func(w *process.WorkerInfo) { w.Load.Share = 0.5 })
	l.pool.change(2, func(w *process.WorkerInfo) { w.State = process.StateDraining })
	a, b := l.join("ann", "one"), l.join("bob", "one")
	a.transport()
	b.transport()
	if slot := l.slotOf("one"); slot != 1 {
		t.Fatalf("placed on %d, want the idle 1", slot)
	}
	l.holds(1, [4]int{1, 2, 0, 0})
	l.pool.change(1, func(w *process.WorkerInfo) { w.Load.Share = 0.9 })
	b.transport()
	if slot := l.slotOf("one"); slot != 1 {
		t.Fatal("the channel moved")
	}
	l.join("cid", "two").transport()
	if slot := l.slotOf("two"); slot != 0 {
		t.Fatalf("placed on %d, want the less loaded 0", slot)
	}
}

func TestAnotherWorkerTakesTheChannel(t *testing.T) {
	l := newLab(t, 2)
	l.workers[0].hooks(func(ctx context.Context, call string) error {
		if call == "CreateRouter" {
			<-ctx.Done() // hangs
		}
		return ctx.Err()
	}, nil)
	l.join("ann", "c").transport()
	if slot := l.slotOf("c"); slot != 1 {
		t.Fatalf("placed on %d", slot)
	}
}

func TestNoWorkerServes(t *testing.T) {
	l := newLab(t, 1)
	l.crash(0)
	a := l.join("ann", "c")
	for _, typ := range []string{"create-transport", "get-rtp-capabilities"} {
		if got := a.must(typ, "", "error"); got.text() != "Router not ready" {
			t.Fatalf("%s: %s", typ, got.raw)
		}
	}
	l.recover(0)
	a.transport()
}

// TestOnePlacementAtATime has two users ask at once.
func TestOnePlacementAtATime(t *testing.T) {
	l := newLab(t, 2)
	a, b := l.join("ann", "c"), l.join("bob", "c")
	reached, release := make(chan struct{}, 2), make(chan struct{})
	for _, w := range l.workers {
		w.hooks(func(_ context.Context, call string) error {
			if call == "CreateRouter" {
				reached <- struct{}{}
				<-release
			}
			return nil
		}, nil)
	}
	a.say("create-transport", "")
	<-reached
	b.say("create-transport", "")
	close(release)
	wantTypes(t, "ann", a.drain(), "currentlyInChannel", "transport-params")
	wantTypes(t, "bob", b.drain(), "transport-params")
	if n := l.workers[0].called("CreateRouter") + l.workers[1].called("CreateRouter"); n != 1 {
		t.Fatalf("%d routers for one channel", n)
	}
}

// TestChannelEmptiesWhileItIsPlaced: the late answer's router is closed.
func TestChannelEmptiesWhileItIsPlaced(t *testing.T) {
	l := newLab(t, 1)
	a := l.join("ann", "c")
	reached, release := make(chan struct{}), make(chan struct{})
	l.workers[0].hooks(nil, func(_ context.Context, call string) error {
		if call == "CreateRouter" {
			close(reached)
			<-release
		}
		return nil
	})
	a.say("create-transport", "")
	<-reached
	l.backend.kick(t.Context(), "ann", "c", "")
	close(release)
	await(t, "the router is closed", func() bool { return l.workers[0].called("CloseRouter") == 1 })
	l.holds(0, [4]int{})
}

func TestWorkerClosesATransport(t *testing.T) {
	l := newLab(t, 1)
	a, b := l.join("ann", "c"), l.join("bob", "c")
	send := a.transport()
	producer := a.produce("")
	b.transport()
	b.consume(producer)
	a.drain()
	b.drain()
	l.main.take()
	r := l.backend.registry
	r.mu.Lock()
	router := string(r.channels["c"].router.id)
	r.mu.Unlock()
	closed := func(router string) process.Event {
		return process.Event{Kind: process.EventWorker, Generation: 1, Epoch: 1, Worker: &workerv1.WatchEventsResponse{
			Event: &workerv1.WatchEventsResponse_TransportClosed{TransportClosed: &workerv1.TransportClosedEvent{
				RouterId: router, TransportId: send, Reason: "ice consent expired",
			}},
		}}
	}
	l.events(closed("another router"))
	wantTypes(t, "ann", a.drain())
	l.events(closed(router), closed(router))
	all := a.drain()
	wantTypes(t, "ann", all, "transport-closed", "currentlyInChannel")
	if all[0].TransportID != send || all[0].Reason != "ice consent expired" || all[0].field("id") != send || all[0].field("reason") != all[0].Reason {
		t.Fatalf("told %s", all[0].raw)
	}
	wantTypes(t, "bob", b.drain(), "producer-closed", "currentlyInChannel")
	if !l.main.heard(`"stop_produce"`) {
		t.Fatal("the main server is not told")
	}
	if got := a.must("pause", fmt.Sprintf(`{"transportId":%q}`, send), "error"); got.text() != "Transport not found" {
		t.Fatal(got.raw)
	}
}

// TestMissedEvents: the worker's dump tells what was given up.
func TestMissedEvents(t *testing.T) {
	l := newLab(t, 1)
	a := l.join("ann", "c")
	send, recv := a.transport(), a.transport()
	w := l.workers[0]
	w.mu.Lock()
	w.dropTransport(send)
	w.mu.Unlock()
	l.events(process.Event{Kind: process.EventMissed, Epoch: 7}, process.Event{Kind: process.EventMissed, Epoch: 1})
	got := a.next()
	if got.Type != "transport-closed" || got.TransportID != send || got.Reason != lostObject {
		t.Fatalf("told %s", got.raw)
	}
	a.connect(recv)
	wantTypes(t, "ann", a.drain())

	fresh := ""
	w.hooks(func(_ context.Context, call string) error { // comes between the look and the dump's answer
		if call == "Dump" {
			fresh = a.transport()
			w.mu.Lock()
			defer w.mu.Unlock()
			delete(w.transports, fresh)
		}
		return nil
	}, nil)
	if err := l.backend.reconcile(t.Context(), 0, 1); err != nil {
		t.Fatal(err)
	}
	wantTypes(t, "ann", a.drain())
	a.must("pause", fmt.Sprintf(`{"transportId":%q}`, fresh), "paused")
}

func TestWorkerDown(t *testing.T) {
	l := newLab(t, 2)
	a, b := l.join("ann", "c"), l.join("bob", "c")
	send := a.transport()
	a.produce("")
	recv := b.transport()
	bystander := l.join("cid", "elsewhere")
	bystander.transport()
	if l.slotOf("c") == l.slotOf("elsewhere") {
		t.Fatal("both channels are on one worker")
	}
	a.drain()
	b.drain()
	l.main.take()
	slot := l.slotOf("c")
	l.crash(slot)
	all := a.drain()
	wantTypes(t, "ann", all, "transport-closed", "currentlyInChannel")
	if all[0].TransportID != send || all[0].Reason == "" || len(all[1].Producers) != 0 {
		t.Fatalf("ann is told %s, %s", all[0].raw, all[1].raw)
	}
	all = b.drain()
	wantTypes(t, "bob", all, "transport-closed", "producer-closed", "currentlyInChannel")
	if all[0].TransportID != recv {
		t.Fatalf("bob is told %s", all[0].raw)
	}
	wantTypes(t, "cid", bystander.drain())
	if !l.main.heard(fmt.Sprintf(`{"details":"worker %d: signal: killed","status":"error","type":"sfu_status"}`, slot)) {
		t.Fatalf("the main server is told %q", l.main.take())
	}
	a.transport()
	if other := l.slotOf("c"); other == slot {
		t.Fatal("the channel is on the dead worker")
	}
	a.produce("")
	wantTypes(t, "bob", b.drain(), "currentlyInChannel", "available-producers", "new-producer")
	l.recover(slot)
	if told := l.main.take(); !slices.Contains(told, `{"details":"all workers serve","status":"ok","type":"sfu_status"}`) {
		t.Fatalf("the main server is told %q", told)
	}
	// News of a former process change nothing.
	l.events(process.Event{Kind: process.EventDown, Slot: l.slotOf("c"), Epoch: 0, Cause: "late"})
	wantTypes(t, "ann", a.drain())
}

// TestWorkerDiesDuringARequest: an answer of a former process is not believed.
func TestWorkerDiesDuringARequest(t *testing.T) {
	for _, row := range []struct{ method, typ, want string }{
		{"CreateTransport", "create-transport", "Router not ready"},
		{"Produce", "produce", "Transport not found"},
	} {
		t.Run(row.method, func(t *testing.T) {
			l := newLab(t, 1)
			a := l.join("ann", "c")
			a.transport()
			reached, release := make(chan struct{}), make(chan struct{})
			l.workers[0].hooks(nil, func(_ context.Context, call string) error {
				if call == row.method {
					close(reached)
					<-release
				}
				return nil
			})
			id := a.say(row.typ, fmt.Sprintf(`{"kind":"audio","rtpParameters":%s}`, rtp))
			<-reached
			l.crash(0)
			l.recover(0)
			close(release)
			for m := a.next(); ; m = a.next() {
				if m.RequestID == id {
					if m.text() != row.want {
						t.Fatalf("answered %s", m.raw)
					}
					break
				}
			}
			l.workers[0].hooks(nil, nil)
			a.transport()
			a.produce("")
		})
	}
}

// TestUncertainCallsAreUndone: a call that timed out may have had its effect.
func TestUncertainCallsAreUndone(t *testing.T) {
	l := newLab(t, 1)
	a, b := l.join("ann", "c"), l.join("bob", "c")
	a.transport()
	spoken := a.produce("")
	b.transport()
	l.workers[0].hooks(nil, func(_ context.Context, call string) error {
		switch call {
		case "CreateTransport", "Produce", "Consume":
			return context.DeadlineExceeded
		}
		return nil
	})
	for typ, row := range map[string][2]string{
		"create-transport": {"null", "Router not ready"},
		"produce":          {fmt.Sprintf(`{"kind":"audio","rtpParameters":%s}`, rtp), "Failed to produce media"},
		"consume":          {fmt.Sprintf(`{"producerId":%q,"rtpCapabilities":%s}`, spoken, caps), "Failed to consume media"},
	} {
		if got := b.must(typ, row[0], "error"); got.text() != row[1] {
			t.Errorf("%s: %s", typ, got.raw)
		}
	}
	l.holds(0, [4]int{1, 2, 1, 0})
	l.workers[0].hooks(nil, nil)
	if got := b.consume(spoken); got.Type != "consumer-params" {
		t.Fatal(got.raw)
	}
}

func TestUnusedTransportsGo(t *testing.T) {
	later := func() time.Time { return time.Now().Add(unusedAfter + time.Second) }
	t.Run("somebody who waits alone keeps them", func(t *testing.T) {
		l := newLab(t, 1)
		a := l.join("ann", "c")
		send := a.transport()
		a.transport()
		a.connect(send)
		l.backend.dropUnused(t.Context(), later())
		l.leave(a)
		l.backend.dropUnused(t.Context(), later()) // its client comes back and uses both
		l.holds(0, [4]int{1, 2, 0, 0})
	})
	t.Run("a restored session goes on with the old ones", func(t *testing.T) {
		l := newLab(t, 1)
		a := l.join("ann", "c")
		send, recv := a.transport(), a.transport()
		a.connect(send)
		l.leave(a)
		a = l.join("ann", "c")
		a.transport()
		a.transport()
		l.backend.dropUnused(t.Context(), time.Now())
		l.holds(0, [4]int{1, 4, 0, 0})
		l.backend.dropUnused(t.Context(), later())
		l.holds(0, [4]int{1, 2, 0, 0})
		wantTypes(t, "ann", a.drain()) // silently
		a.connect(recv)
		a.must("pause", fmt.Sprintf(`{"transportId":%q}`, send), "paused")
	})
	t.Run("a second tab keeps its own", func(t *testing.T) {
		l := newLab(t, 1)
		one, two := l.join("ann", "c"), l.join("ann", "c")
		one.connect(one.transport())
		two.transport()
		l.backend.dropUnused(t.Context(), later())
		l.holds(0, [4]int{1, 2, 0, 0})
	})
}

func TestOverload(t *testing.T) {
	var o overload
	var got []bool
	for _, share := range []float64{0.95, 0.95, 0.95, 0.95, 0.2, 0.95, 0.95, 0.95, 0.95, 0.95, 0.8, 0.7, 0.7, 0.7, 0.7, 0.8, 0.7, 0.7, 0.7, 0.7, 0.7} {
		got = append(got, o.take(share))
	}
	want := slices.Concat(slices.Repeat([]bool{false}, 9), slices.Repeat([]bool{true}, 11), []bool{false})
	if !slices.Equal(got, want) {
		t.Fatalf("overloaded: %v", got)
	}
	l := newLab(t, 2)
	l.pool.change(1, func(w *process.WorkerInfo) { w.Usage = &workerv1.ResourceUsage{CpuShare: 0.97} })
	loads := map[ident.Slot]*overload{}
	for range overloadReadings {
		l.backend.watchLoad(loads)
	}
	l.crash(1)
	l.backend.watchLoad(loads)
	l.recover(1)
	wantTold(t, l.main, `{"details":"worker 1: overloaded","status":"error","type":"sfu_status"}`,
		`{"details":"worker 1: signal: killed; worker 1: overloaded","status":"error","type":"sfu_status"}`,
		`{"details":"worker 1: signal: killed","status":"error","type":"sfu_status"}`,
		`{"details":"all workers serve","status":"ok","type":"sfu_status"}`)
}

func TestRefusalsAreCounted(t *testing.T) {
	var r refusals
	for _, err := range []error{nil, fmt.Errorf("x: %w", errs.ErrNotFound), errs.ErrUnavailable, context.Canceled} {
		r.note(err)
	}
	for i, kind := range refusalKinds() {
		want := uint64(0)
		if kind.name == "not_found" || kind.name == "unavailable" || kind.name == "internal" {
			want = 1
		}
		if got := r.counts[i].Load(); got != want {
			t.Errorf("%s: %d", kind.name, got)
		}
	}
}
