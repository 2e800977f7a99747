package supervisor

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspeak/sfu/internal/config"
	"github.com/dspeak/sfu/internal/ident"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/supervisor/process"
)

// succeed puts another supervisor in the place of one that was killed: it knows nothing
// but what the workers say.
func (l *lab) succeed(grace time.Duration) {
	l.t.Helper()
	r := l.backend.registry
	r.mu.Lock()
	r.closed, r.leaving = true, true
	r.mu.Unlock()
	former := l.backend
	slots := []ident.Slot{}
	for i := range l.workers {
		slots = append(slots, ident.Slot(i))
	}
	l.backend = &backend{
		registry: newRegistry(), crowds: newCrowds(), workers: l.pool, presence: l.main, log: slog.New(slog.DiscardHandler),
		takeovers: newTakeovers(len(l.workers)), adoptions: &adoptions{slots: slots, alone: time.Now(), left: map[ident.Slot]struct{}{}, done: make(chan struct{}), built: make(chan struct{})},
		addresses: newAddresses(config.Config{Environment: config.Production, Media: config.Media{IPv4: "192.0.2.9", IPv4Port: 12825}}, former.addresses.served, former.log),
		grace:     grace, cooldown: former.cooldown,
	}
	l.backend.addresses.refresh(l.t.Context())
	close(l.backend.adoptions.done)
	l.backend.rebuild(l.t.Context(), time.Minute)
	l.serve(nil)
}

func TestNextSupervisorRestoresTheSessions(t *testing.T) {
	s := newScene(t)
	s.ann.must("client-rtp-capabilities", caps, "rtp-capabilities-ack")
	s.bob.must("client-rtp-capabilities", caps, "rtp-capabilities-ack")
	s.agrees(0)
	s.succeed(time.Minute)
	s.agrees(0)
	status, channels := s.backend.Snapshot()
	if status.Status == "error" || len(channels) != 1 || channels[0].ChannelID != "c" || len(channels[0].UserIDs) != 2 {
		t.Fatalf("the main server sees %+v, %+v", status, channels)
	}
	ann, first := s.enter("ann", "c")
	if !slices.Equal(first[0].InRoom, []string{"ann", "bob"}) || !slices.Equal(first[0].Producers, []string{s.producer}) || !strings.Contains(first[1].raw, "restored") {
		t.Fatalf("ann is told %s, %s", first[0].raw, first[1].raw)
	}
	bob, _ := s.enter("bob", "c")
	cid := s.join("cid", "c")
	recv := cid.transport()
	cid.must("client-rtp-capabilities", caps, "rtp-capabilities-ack")
	cid.connect(recv)
	if heard := cid.consume(s.producer); heard.field("producerId") != s.producer {
		t.Fatalf("a latecomer gets %s", heard.raw)
	}
	ann.drain()
	bob.drain()
	ann.must("close-producer", `{"producerId":"`+s.producer+`"}`, "producer-closed")
	ann.drain() // the former request has ended then
	s.agrees(0)
	if all := bob.drain(); !slices.ContainsFunc(all, func(m message) bool { return m.Type == "producer-closed" }) {
		t.Errorf("bob is not told that ann's producer is closed")
	}
}

func TestNextSupervisorRemovesWhatNobodyClaims(t *testing.T) {
	s := newScene(t)
	s.succeed(time.Millisecond)
	await(t, "the users are removed", func() bool {
		s.backend.registry.mu.Lock()
		defer s.backend.registry.mu.Unlock()
		return len(s.backend.registry.channels) == 0
	})
	s.agrees(0)
	if told := strings.Join(s.main.take(), ""); strings.Count(told, `"leave"`) != 2 {
		t.Errorf("the main server is told %s", told)
	}
}

// TestRebuildBelievesNothing: objects without an owner, of two owners and without sense
// are closed, and the rest goes on.
func TestRebuildBelievesNothing(t *testing.T) {
	s := newScene(t)
	s.worker(func(w *fakeWorker) {
		w.appData[s.send] = []byte(`{"userId":`) // ann is not known any more, with her producer
		w.routers["nobody's"] = true
		w.appData["nobody's"] = []byte("{}")
	})
	s.succeed(time.Minute)
	await(t, "what nobody owns is closed", func() bool {
		s.backend.background.Wait()
		return s.difference(0) == ""
	})
	r := s.backend.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if ch := r.channels["c"]; len(r.channels) != 1 || len(ch.users) != 1 || ch.users[0].id != "bob" || len(ch.producers) != 0 {
		t.Fatalf("channels %+v", r.channels)
	}
}

// TestLateAdoption: what a worker carries that was adopted after the registry was built
// is closed, for nobody will claim it.
func TestLateAdoption(t *testing.T) {
	s := newScene(t)
	s.backend.registry.mu.Lock()
	s.backend.registry.channels = map[ident.ChannelID]*channel{}
	s.backend.registry.mu.Unlock()
	s.backend.adoptions.await(t.Context())
	s.events(process.Event{Kind: process.EventAdopted, Epoch: 1})
	s.backend.background.Wait()
	s.agrees(0)
}

func TestAdoptionsAreAwaited(t *testing.T) {
	a := newAdoptions([]*process.Remains{{Slot: 3}})
	a.await(t.Context()) // sockets alone are nothing to wait for
	a = &adoptions{left: map[ident.Slot]struct{}{1: {}, 2: {}}, done: make(chan struct{})}
	if a.note(1) || a.note(7) || a.note(2) {
		t.Fatal("late before the end")
	}
	a.await(t.Context())
	if !a.note(2) {
		t.Fatal("not late after the end")
	}
}

// FuzzRebuild has a worker of another version say anything.
func FuzzRebuild(f *testing.F) {
	f.Add([]byte(`{"channelId":"c","created":1}`), []byte(`{"userId":"u","joined":1,"created":2}`), "r", "t", "p")
	f.Add([]byte(`{}`), []byte(`{"userId":"","created":-1,"capabilities":"AAAA"}`), "", "t", "t")
	f.Fuzz(func(t *testing.T, router, transport []byte, r, tr, p string) {
		re := newRebuilder(time.Now(), time.Now(), slog.New(slog.DiscardHandler))
		one := &workerv1.TransportDump{
			Id: tr, AppData: transport, Producers: []*workerv1.ProducerDump{{Id: p}, {Id: p}, nil},
			Consumers: []*workerv1.ConsumerDump{{Id: p + "c", ProducerId: p}, {Id: p + "d", ProducerId: p}, nil},
		}
		dump := &workerv1.WorkerDump{Routers: []*workerv1.RouterDump{
			{Id: r, AppData: router, Transports: []*workerv1.TransportDump{one, one, nil}}, {Id: r + "2", AppData: router, Transports: []*workerv1.TransportDump{one}}, nil,
		}}
		re.worker(&adopted{slot: 1, epoch: 1, dump: dump})
		for id, ch := range re.finish() {
			if id == "" || len(ch.users) == 0 || ch.router == nil {
				t.Fatalf("channel %q: %+v", id, ch)
			}
			for _, u := range ch.users {
				if u.id == "" || len(u.transports) == 0 || len(u.consumers) > 1 {
					t.Fatalf("user %+v", u)
				}
			}
		}
	})
}

// TestWorkerDiesWhileTheRegistryIsRebuilt: the event comes when there are no channels
// yet, between the worker's dump and the registry that is made of it.
func TestWorkerDiesWhileTheRegistryIsRebuilt(t *testing.T) {
	s := newScene(t)
	s.workers[0].hooks(nil, func(_ context.Context, call string) error {
		if call == "Dump" {
			s.workers[0].hooks(nil, nil)
			s.crash(0)   //nolint:contextcheck // not part of the call
			s.recover(0) //nolint:contextcheck // not part of the call
		}
		return nil
	})
	s.succeed(time.Minute)
	ann, _ := s.enter("ann", "c")
	ann.transport() // or the channel would be on the dead worker for good
	s.backend.background.Wait()
	s.agrees(0)
}

// TestTakeoverWhileTheRegistryIsRebuilt: what nobody knows yet is not closed.
func TestTakeoverWhileTheRegistryIsRebuilt(t *testing.T) {
	s := newScene(t)
	before := s.workers[0].held()
	s.workers[0].hooks(nil, func(_ context.Context, call string) error {
		if call == "Dump" {
			s.workers[0].hooks(nil, nil)
			s.events(process.Event{Kind: process.EventTakeover, Epoch: 1, Generation: 2, Cause: "signal: killed"}) //nolint:contextcheck // not part of the call
		}
		return nil
	})
	s.succeed(time.Minute)
	s.backend.background.Wait()
	if got := s.workers[0].held(); got != before {
		t.Errorf("the worker holds %v, want %v", got, before)
	}
	s.agrees(0)
}
