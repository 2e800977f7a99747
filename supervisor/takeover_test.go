package supervisor

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dspeak/sfu/internal/config"
	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/supervisor/process"
)

// takenOver tells the backend that another process went on with a slot, and waits
// until it has compared.
func (l *lab) takenOver(slot ident.Slot, cause string, dropped int) {
	l.t.Helper()
	var now process.WorkerInfo
	l.pool.change(slot, func(w *process.WorkerInfo) {
		w.Generation++
		w.Takeovers++
		now = *w
	})
	l.events(process.Event{
		Kind: process.EventTakeover, Slot: slot, Generation: now.Generation, Epoch: now.Epoch, Cause: cause,
		Resumed: handoff.Resumed{Dropped: dropped},
	})
	l.backend.background.Wait()
}

// scene is a channel in which ann speaks and bob hears.
type scene struct {
	*lab

	ann, bob                       *socket
	send, recv, producer, consumer string
}

func newScene(t *testing.T) *scene {
	t.Helper()
	l := newLab(t, 1)
	s := &scene{lab: l, ann: l.join("ann", "c"), bob: l.join("bob", "c")}
	s.send, s.recv = s.ann.transport(), s.bob.transport()
	s.ann.connect(s.send)
	s.bob.connect(s.recv)
	s.producer = s.ann.produce("")
	s.consumer = s.bob.consume(s.producer).field("id")
	s.ann.drain()
	s.bob.drain()
	l.main.take()
	return s
}

// worker edits what the worker holds.
func (s *scene) worker(edit func(w *fakeWorker)) {
	w := s.workers[0]
	w.mu.Lock()
	defer w.mu.Unlock()
	edit(w)
}

func TestTakeoverIsSilent(t *testing.T) {
	s := newScene(t)
	before := s.workers[0].held()
	s.takenOver(0, "signal: killed", 0)
	wantTypes(t, "ann", s.ann.drain())
	wantTypes(t, "bob", s.bob.drain())
	wantTold(t, s.main, `{"details":"worker 0: signal: killed; another process went on","status":"error","type":"sfu_status"}`,
		`{"details":"all workers serve","status":"ok","type":"sfu_status"}`)
	s.takenOver(0, process.CauseRestart, 0)
	s.takenOver(0, "hung: its loop stood still", 2)
	if got := s.workers[0].held(); got != before {
		t.Errorf("the worker holds %v, want %v", got, before)
	}
	_, body := s.get(config.Production, "/metrics")
	for _, line := range []string{
		`dspeak_worker_takeovers_total{cause="crash",slot="0"} 1`, `dspeak_worker_takeovers_total{cause="hang",slot="0"} 1`,
		`dspeak_worker_takeovers_total{cause="restart",slot="0"} 1`, "dspeak_takeover_transports_dropped_total 2",
		`dspeak_worker_last_takeover_seconds{slot="0"} 0`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("metrics lack %s", line)
		}
	}
}

// TestHealthDuringATakeover: the slot serves, be it a moment later.
func TestHealthDuringATakeover(t *testing.T) {
	l := newLab(t, 1)
	for _, state := range []process.State{process.StateHung, process.StateTakeover} {
		l.pool.change(0, func(w *process.WorkerInfo) { w.State = state })
		if code, body := l.get(config.Production, "/health"); code != http.StatusOK || body != healthText {
			t.Errorf("%s: %d %q", state, code, body)
		}
	}
	l.join("ann", "c").transport() // placed on it
}

// TestRequestsDuringATakeover are served after it, in order, and once.
func TestRequestsDuringATakeover(t *testing.T) {
	s := newScene(t)
	over := s.pool.interrupt(0)
	defer over()
	late := s.join("cid", "c")
	newcomer := s.join("dan", "elsewhere")
	said := []string{
		late.say("get-rtp-capabilities", ""), late.say("create-transport", ""),
		late.say("consume", fmt.Sprintf(`{"producerId":%q,"rtpCapabilities":%s}`, s.producer, caps)),
		late.say("produce", fmt.Sprintf(`{"kind":"audio","rtpParameters":%s}`, rtp)),
	}
	placed := newcomer.say("create-transport", "")
	paused := s.ann.say("pause", fmt.Sprintf(`{"producerId":%q}`, s.producer))
	s.bob.say("close-transport", fmt.Sprintf(`{"transportId":%q}`, s.recv)) // its clean-up waits, too
	s.bob.drain()
	over()
	want := []string{"rtp-capabilities", "transport-params", "consumer-params", "producer-id", "produced"}
	var got, ids []string
	for len(got) < len(want) {
		if m := late.next(); m.RequestID != "" {
			got, ids = append(got, m.Type), append(ids, m.RequestID)
		}
	}
	if !slices.Equal(got, want) || !slices.Equal(slices.Compact(ids), said) {
		t.Errorf("answered by %v to %v", got, ids)
	}
	if m := newcomer.next(); m.RequestID != placed || m.Type != "transport-params" {
		t.Errorf("the newcomer is answered %s", m.raw)
	}
	for m := s.ann.next(); m.RequestID != paused; m = s.ann.next() {
		if m.Type == "error" {
			t.Errorf("pause: %s", m.raw)
		}
	}
	s.holds(0, [4]int{2, 3, 2, 1})
}

// TestLostAnswers: the call had its effect, its process died before it answered. The
// pool makes it again, and nothing is doubled.
func TestLostAnswers(t *testing.T) {
	s := newScene(t)
	var lost atomic.Int64
	died := func(ctx context.Context, call string) error {
		if call != "Dump" && lost.Add(1)%2 == 1 {
			return fmt.Errorf("%s: process died: %w", call, errs.ErrUnavailable)
		}
		return ctx.Err()
	}
	s.workers[0].hooks(nil, died)
	recv := s.ann.transport()
	s.ann.connect(recv)
	second := s.bob.produce(s.recv)
	if got := s.ann.ask("consume", fmt.Sprintf(`{"producerId":%q,"transportId":%q,"rtpCapabilities":%s}`, second, recv, caps)); got.Type != "consumer-params" {
		t.Fatal(got.raw)
	}
	s.ann.must("pause", fmt.Sprintf(`{"producerId":%q}`, s.producer), "paused")
	s.join("cid", "elsewhere").transport()
	third := s.bob.produce(s.recv) // ends the second
	s.holds(0, [4]int{2, 4, 2, 1})
	s.bob.must("close-producer", fmt.Sprintf(`{"producerId":%q}`, third), "producer-closed")
	s.ann.must("close-transport", fmt.Sprintf(`{"transportId":%q}`, recv), "transport-closed")
	s.holds(0, [4]int{2, 3, 1, 1})
	if lost.Load() < 16 {
		t.Errorf("only %d calls", lost.Load())
	}
	s.agrees(0)
}

func TestReconciliation(t *testing.T) {
	for _, row := range []struct {
		name     string
		edit     func(s *scene, w *fakeWorker)
		ann, bob []string
		held     [4]int
	}{
		{"nothing differs", func(*scene, *fakeWorker) {}, nil, nil, [4]int{1, 2, 1, 1}},
		{
			"a consumer is lost", func(s *scene, w *fakeWorker) { w.dropConsumer(s.consumer) },
			nil,
			[]string{"producer-closed", "currentlyInChannel"},
			[4]int{1, 2, 1, 0},
		},
		{
			"a producer is lost", func(s *scene, w *fakeWorker) { w.dropProducer(s.producer) },
			[]string{"producer-closed", "currentlyInChannel"},
			[]string{"producer-closed", "currentlyInChannel"},
			[4]int{1, 2, 0, 0},
		},
		{
			"a listener's transport is lost", func(s *scene, w *fakeWorker) { w.dropTransport(s.recv) },
			nil,
			[]string{"transport-closed"},
			[4]int{1, 1, 1, 0},
		},
		{
			"a speaker's transport is lost", func(s *scene, w *fakeWorker) { w.dropTransport(s.send) },
			[]string{"transport-closed", "currentlyInChannel"},
			[]string{"producer-closed", "currentlyInChannel"},
			[4]int{1, 1, 0, 0},
		},
		{
			"the router is lost", func(_ *scene, w *fakeWorker) {
				for id := range w.routers {
					w.dropRouter(id)
				}
			},
			[]string{"transport-closed", "currentlyInChannel"},
			[]string{"transport-closed", "producer-closed", "currentlyInChannel"},
			[4]int{},
		},
		{
			"a router, a transport, a producer and a consumer that nobody knows", func(s *scene, w *fakeWorker) {
				w.routers["strange"] = true
				w.transports["strange-1"], w.transports["strange-2"] = "strange", w.transports[s.send]
				w.producers["strange-3"], w.producers["strange-4"] = "strange-1", s.recv
				w.consumers["strange-5"] = [2]string{s.send, "strange-4"}
			},
			nil, nil,
			[4]int{1, 2, 1, 1},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newScene(t)
			s.worker(func(w *fakeWorker) { row.edit(s, w) })
			s.takenOver(0, process.CauseRestart, 0)
			s.backend.background.Wait()
			wantTypes(t, "ann", s.ann.drain(), row.ann...)
			wantTypes(t, "bob", s.bob.drain(), row.bob...)
			if got := s.workers[0].held(); got != row.held {
				t.Errorf("the worker holds %v, want %v", got, row.held)
			}
			s.agrees(0)
		})
	}
}

// TestReconciliationLeavesCallsAlone: what is being made is not known yet.
func TestReconciliationLeavesCallsAlone(t *testing.T) {
	for _, method := range []string{"CreateRouter", "CreateTransport", "Produce", "Consume"} {
		t.Run(method, func(t *testing.T) {
			s := newScene(t)
			reached, release := make(chan struct{}), make(chan struct{})
			s.workers[0].hooks(nil, func(_ context.Context, call string) error {
				if call == method {
					close(reached)
					<-release
				}
				return nil
			})
			var id string
			by := s.bob
			switch method {
			case "CreateRouter":
				by = s.join("eve", "a third")
				id = by.say("create-transport", "")
			case "CreateTransport":
				id = by.say("create-transport", "")
			case "Produce":
				id = by.say("produce", fmt.Sprintf(`{"kind":"audio","rtpParameters":%s}`, rtp))
			default:
				by = s.ann
				id = by.say("consume", fmt.Sprintf(`{"producerId":%q,"rtpCapabilities":%s}`, s.producer, caps))
			}
			<-reached
			if err := s.backend.reconcile(t.Context(), 0, 1); err != nil {
				t.Fatal(err)
			}
			s.backend.background.Wait()
			close(release)
			for m := by.next(); ; m = by.next() {
				if m.RequestID == id {
					if m.Type == "error" {
						t.Fatal(m.raw)
					}
					break
				}
			}
			s.workers[0].hooks(nil, nil)
			s.agrees(0)
		})
	}
}

// agrees fails the test when registry and worker differ.
func (l *lab) agrees(slot ident.Slot) {
	l.t.Helper()
	await(l.t, "nothing is being made or cleaned up", func() bool {
		l.backend.registry.mu.Lock()
		defer l.backend.registry.mu.Unlock()
		return len(l.backend.registry.making) == 0
	})
	l.backend.background.Wait()
	if diff := l.difference(slot); diff != "" {
		l.t.Fatal(diff)
	}
}

// difference says what registry and worker do not have in common.
func (l *lab) difference(slot ident.Slot) string {
	w := l.workers[slot]
	l.backend.registry.mu.Lock()
	defer l.backend.registry.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	known := l.backend.registry.knownOnLocked(slot, w.epoch).ids()
	there := map[string]bool{}
	for id := range w.routers {
		there[id] = true
	}
	for id := range w.transports {
		there[id] = true
	}
	for id := range w.producers {
		there[id] = true
	}
	for id := range w.consumers {
		there[id] = true
	}
	for id := range known {
		if !there[id] {
			return fmt.Sprintf("the registry has %s, worker %d has not", id, slot)
		}
	}
	for id := range there {
		if !known[id] {
			return fmt.Sprintf("worker %d has %s, the registry has not", slot, id)
		}
	}
	return ""
}
