package supervisor

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/supervisor/process"
)

// newQuarantineLab has workers for everybody and one that sleeps until a channel is
// condemned.
func newQuarantineLab(t *testing.T, workers int) *lab {
	t.Helper()
	l := newLab(t, workers+1)
	l.pool.change(ident.Slot(workers), func(w *process.WorkerInfo) { w.Reserve, w.State = true, process.StateExited })
	return l
}

// routerOf is a copy of the channel's router.
func (l *lab) routerOf(id ident.ChannelID) router {
	l.t.Helper()
	r := l.backend.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	ch := r.channels[id]
	if ch == nil || ch.router == nil {
		l.t.Fatalf("channel %s is on no worker", id)
	}
	return *ch.router
}

// crashOf is what follows when a worker crashes of a router for the third time, in the
// order in which the pool does it.
func (l *lab) crashOf(poison router) (verdict, successor func()) {
	verdict = func() {
		l.backend.condemn(process.Verdict{Slot: poison.slot, Epoch: poison.epoch, Mark: markOf(&poison), Cause: "exit status 2"})
	}
	successor = func() {
		l.drop(poison)
		l.takenOver(poison.slot, "exit status 2", 0)
	}
	return verdict, successor
}

// isolated fails the test unless the channel is alone on the quarantine's worker.
func (l *lab) isolated(id ident.ChannelID) {
	l.t.Helper()
	reserve := ident.Slot(len(l.workers) - 1)
	if got := l.slotOf(id); got != reserve {
		l.t.Errorf("channel %s is on worker %d, want the quarantine's %d", id, got, reserve)
	}
	for slot := range l.workers {
		l.agrees(ident.Slot(slot))
	}
}

func TestPoisonGoesToQuarantine(t *testing.T) {
	l := newQuarantineLab(t, 1)
	bad, good := l.join("eve", "bad"), l.join("ann", "good")
	bad.transport()
	kept := good.transport()
	verdict, successor := l.crashOf(l.routerOf("bad"))
	verdict()
	successor()
	if all := bad.drain(); !slices.ContainsFunc(all, func(m message) bool { return m.Type == "transport-closed" && m.Reason == poisonReason }) {
		t.Errorf("the channel's user is told %+v", all)
	}
	bad.transport()
	if all := good.drain(); len(all) != 0 {
		t.Errorf("the other channel's user is told %+v", all)
	}
	l.isolated("bad")
	l.join("cid", "another").transport()
	if got := l.slotOf("another"); got != 0 {
		t.Errorf("another channel is on worker %d", got)
	}
	good.must("close-transport", `{"transportId":"`+kept+`"}`, "transport-closed")
	l.backend.registry.endQuarantines(time.Now().Add(2 * quarantineFor))
	if n := len(l.backend.registry.poisoned); n != 0 {
		t.Errorf("%d quarantines never end", n)
	}
}

// TestVerdictsAreNotRaced: in whatever order the verdict, a comparison that an earlier
// takeover left, the end and the return of users, and placements come, the condemned
// channel ends in quarantine.
func TestVerdictsAreNotRaced(t *testing.T) {
	type steps struct {
		*lab

		bad                *socket
		poison             router
		verdict, successor func()
	}
	for name, run := range map[string]func(s *steps){
		"a leftover comparison before the verdict": func(s *steps) {
			s.successorFirst(s.poison)
			s.verdict()
			s.bad.transport()
		},
		"a leftover comparison, a return, the verdict": func(s *steps) {
			s.successorFirst(s.poison)
			s.bad.transport() // on the worker that it has just crashed
			s.verdict()
			s.bad.drain()
			s.bad.transport()
		},
		"a leftover comparison between verdict and takeover": func(s *steps) {
			s.verdict()
			s.drop(s.poison)
			if err := s.backend.reconcile(s.t.Context(), 0, 1); err != nil {
				s.t.Fatal(err)
			}
			s.bad.transport()
			s.successor()
		},
		"a return between verdict and takeover": func(s *steps) {
			s.verdict()
			s.bad.transport()
			s.successor()
		},
		"all users leave, come back, and then the verdict comes": func(s *steps) {
			s.backend.cooldown = 0
			s.backend.kick(s.t.Context(), "eve", "bad", "")
			s.bad = s.join("eve", "bad")
			s.bad.transport()
			s.verdict()
			s.successor()
			s.bad.drain()
			s.bad.transport()
		},
		"all users leave, the verdict comes, and they come back": func(s *steps) {
			s.backend.cooldown = 0
			s.backend.kick(s.t.Context(), "eve", "bad", "")
			s.verdict()
			s.successor()
			s.bad = s.join("eve", "bad")
			s.bad.transport()
		},
		"the verdict comes in the middle of a placement": func(s *steps) {
			s.successorFirst(s.poison)
			reached, release := s.holdPlacement()
			id := s.bad.say("create-transport", "")
			<-reached
			s.verdict()
			close(release)
			s.granted(s.bad, id)
		},
		"the verdict comes in the middle of a placement, of the router that is placed": func(s *steps) {
			s.successorFirst(s.poison)
			reached, release := s.holdPlacement()
			id := s.bad.say("create-transport", "")
			<-reached
			r := s.backend.registry
			r.mu.Lock()
			s.poison = *r.channels["bad"].placing.router
			r.mu.Unlock()
			s.verdict, s.successor = s.crashOf(s.poison)
			s.verdict()
			close(release)
			s.granted(s.bad, id)
			s.successor()
		},
		"the channel was drained away when it is condemned": func(s *steps) {
			if err := s.backend.drain(0, 0); err != nil {
				s.t.Fatal(err)
			}
			s.backend.endChannels(0)
			s.bad.transport() // on the other worker
			s.verdict()
			s.successor()
			s.bad.drain()
			s.bad.transport()
			if err := s.backend.undrain(0); err != nil {
				s.t.Fatal(err)
			}
		},
		"the state is lost with the crash": func(s *steps) {
			s.verdict()
			s.crash(0)
			s.recover(0)
			s.bad.transport()
		},
		"the state is lost, the channel is back, the verdict comes late": func(s *steps) {
			s.crash(0)
			s.recover(0)
			s.bad.transport()
			s.verdict()
			s.bad.drain()
			s.bad.transport()
		},
		"two verdicts": func(s *steps) {
			s.verdict()
			s.bad.transport()
			s.verdict() // of a router that it does not have any more
			s.bad.transport()
			s.successor()
		},
		"it crashes the quarantine's worker, too": func(s *steps) {
			s.verdict()
			s.successor()
			s.bad.transport()
			s.poison = s.routerOf("bad")
			s.verdict, s.successor = s.crashOf(s.poison)
			s.verdict()
			s.successor()
			s.bad.drain()
			s.bad.transport()
			if s.routerOf("bad").id == s.poison.id {
				s.t.Error("it goes on with the condemned router")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newQuarantineLab(t, 2)
			s := &steps{lab: l, bad: l.join("eve", "bad")}
			s.bad.transport()
			bystander := l.join("ann", "good")
			bystander.transport()
			s.poison = l.routerOf("bad")
			s.verdict, s.successor = l.crashOf(s.poison)
			run(s)
			l.backend.background.Wait()
			l.isolated("bad")
			if got := l.slotOf("good"); got == l.slotOf("bad") {
				t.Errorf("the other channel is on worker %d, too", got)
			}
		})
	}
}

// drop takes a router from its worker, before anybody says so.
func (l *lab) drop(r router) {
	w := l.workers[r.slot]
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropRouter(string(r.id))
}

// successorFirst has a comparison with the successor come before the verdict: what the
// rule of the pool excludes.
func (l *lab) successorFirst(poison router) {
	l.t.Helper()
	l.drop(poison)
	if err := l.backend.reconcile(l.t.Context(), 0, 1); err != nil {
		l.t.Fatal(err)
	}
}

// holdPlacement keeps CreateRouter from being answered on the workers for everybody.
func (l *lab) holdPlacement() (reached, release chan struct{}) {
	reached, release = make(chan struct{}, 4), make(chan struct{})
	for _, w := range l.workers[:len(l.workers)-1] {
		w.hooks(nil, func(_ context.Context, call string) error {
			if call == "CreateRouter" {
				reached <- struct{}{}
				<-release
			}
			return nil
		})
	}
	return reached, release
}

// granted waits for the answer to a request for a transport.
func (l *lab) granted(s *socket, id string) {
	l.t.Helper()
	for m := s.next(); ; m = s.next() {
		if m.RequestID == id {
			if m.Type != "transport-params" {
				l.t.Fatalf("answered %s", m.raw)
			}
			return
		}
	}
}

// TestQuarantineHoldsWhateverHappens: random requests, comparisons, verdicts, crashes and
// drains; whenever nothing is under way, the channels in quarantine are on its worker
// alone, and the others are not.
func TestQuarantineHoldsWhateverHappens(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			l := newQuarantineLab(t, 2)
			l.backend.cooldown = 0
			rng := rand.New(rand.NewPCG(seed, 3))
			sockets := map[ident.ChannelID]*socket{}
			for i := range 6 {
				id := ident.ChannelID(fmt.Sprint("channel-", i))
				sockets[id] = l.join("eve", string(id))
			}
			ids := slices.Sorted(maps.Keys(sockets))
			over := []func(){func() {}, func() {}}
			for range 8 {
				for range 20 {
					id := ids[rng.IntN(len(ids))]
					slot := ident.Slot(rng.IntN(2))
					switch n := rng.IntN(110); {
					case n >= 100: // calls wait, and placements with them
						over[slot]()
						over[slot] = l.pool.interrupt(slot)
					case n < 60:
						sockets[id].say("create-transport", "")
					case n < 70:
						l.condemnAny(rng, slot)
					case n < 80:
						l.backend.reconcileLater(t.Context(), slot, l.pool.Workers()[slot].Epoch)
					case n < 90:
						l.backend.kick(t.Context(), "eve", id, "")
						_ = sockets[id].conn.Close()
						sockets[id] = l.join("eve", string(id))
					case n < 95:
						l.crash(slot)
						l.recover(slot)
					default:
						_ = l.backend.drain(slot, 0)
						l.backend.endChannels(slot)
						_ = l.backend.undrain(slot)
					}
				}
				over[0]()
				over[1]()
				for _, s := range sockets {
					s.drain()
				}
				for slot := range l.workers {
					l.agrees(ident.Slot(slot))
				}
				l.quarantineHolds()
			}
		})
	}
}

// condemnAny has a worker crash of a router that it has, or had.
func (l *lab) condemnAny(rng *rand.Rand, slot ident.Slot) {
	r := l.backend.registry
	r.mu.Lock()
	marks := slices.Sorted(maps.Keys(r.owners))
	r.mu.Unlock()
	if len(marks) == 0 {
		return
	}
	mark := marks[rng.IntN(len(marks))]
	w := l.workers[slot]
	w.mu.Lock()
	for id := range w.routers {
		if markOf(&router{id: ident.RouterID(id)}) == mark {
			w.dropRouter(id)
		}
	}
	w.mu.Unlock()
	l.backend.condemn(process.Verdict{Slot: slot, Epoch: 1, Mark: mark, Cause: "exit status 2"})
	e := l.pool.Workers()[slot]
	l.events(process.Event{Kind: process.EventTakeover, Slot: slot, Generation: e.Generation, Epoch: e.Epoch, Cause: "exit status 2"})
}

// quarantineHolds looks whether each channel is where it belongs.
func (l *lab) quarantineHolds() {
	l.t.Helper()
	r := l.backend.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ch := range r.channels {
		if ch.router == nil {
			continue
		}
		_, poisoned := r.poisoned[ch.id]
		if reserve := int(ch.router.slot) == len(l.workers)-1; reserve != poisoned {
			l.t.Errorf("channel %s is on worker %d; in quarantine: %v", ch.id, ch.router.slot, poisoned)
		}
	}
}

// TestQuarantineOutlivesTheSupervisor: the next one finds the channel on the
// quarantine's worker.
func TestQuarantineOutlivesTheSupervisor(t *testing.T) {
	l := newQuarantineLab(t, 1)
	bad := l.join("eve", "bad")
	bad.transport()
	verdict, successor := l.crashOf(l.routerOf("bad"))
	verdict()
	successor()
	bad.transport()
	l.join("ann", "good").transport()
	l.succeed(time.Minute)
	l.isolated("bad")
	l.crash(1) // it loses its state, and has to be placed anew
	l.recover(1)
	again, _ := l.enter("eve", "bad")
	again.transport()
	l.isolated("bad")
	if got := l.slotOf("good"); got != 0 {
		t.Errorf("the other channel is on worker %d", got)
	}
	verdict, _ = l.crashOf(l.routerOf("good")) // a router that this supervisor did not make
	verdict()
	good, _ := l.enter("ann", "good")
	good.transport()
	l.isolated("good")
}

// TestOwnersAreForgotten: a router that is not in use any more has an owner for a while.
func TestOwnersAreForgotten(t *testing.T) {
	l := newQuarantineLab(t, 1)
	l.join("ann", "good").transport()
	l.join("eve", "bad").transport()
	l.backend.kick(t.Context(), "eve", "bad", "")
	r := l.backend.registry
	now := time.Now()
	for _, row := range []struct {
		after time.Duration
		want  int
	}{{0, 2}, {ownedFor - time.Second, 2}, {ownedFor + time.Second, 1}, {10 * ownedFor, 1}} {
		r.endQuarantines(now.Add(row.after))
		if got := len(r.owners); got != row.want {
			t.Errorf("after %v %d owners, want %d", row.after, got, row.want)
		}
	}
}
