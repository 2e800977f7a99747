package e2e

import (
	"fmt"
	"maps"
	"slices"
	"syscall"
	"testing"
	"time"

	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
)

const (
	workerKills     = 10
	supervisorKills = 3
	// faultEvery is the least time between two faults, in packets of 20 ms.
	faultEvery = 25
)

// TestBrowserCallSurvivesFaults kills the worker and the supervisor of a call
// between Chromium and Firefox: both go on hearing each other over the same
// transports, and nobody tells them of the worker.
func TestBrowserCallSurvivesFaults(t *testing.T) {
	set := callSettings(t, firefox, nil)
	set.workers = 1
	maps.Copy(set.env, map[string]string{"DSPEAK_RESTART_BURST": "1000", "SFU_GRACE_MS": "30000"})
	s := startServer(t, set)
	a, b := mixedCall(t, s)
	a.hearsExactly(t, b)
	b.hearsExactly(t, a)
	everyone := []*user{a, b}
	var before [][]string
	for _, u := range everyone {
		before = append(before, transportIDs(t, u))
	}
	check := func(during func()) {
		concealed(t, everyone, during)
		for i, u := range everyone {
			u.untroubled(t)
			for name, facts := range u.transports(t) {
				if facts.State != "connected" {
					t.Errorf("%s transport of %s is %s", name, u.name, facts.State)
				}
			}
			if now := transportIDs(t, u); !slices.Equal(now, before[i]) {
				t.Errorf("%s had transports %v and has %v", u.name, before[i], now)
			}
		}
	}
	t.Log("without faults: what the machine does to a call")
	check(func() {
		for range workerKills {
			heardOn(t, a, b)
		}
	})
	t.Log("ten workers are killed")
	check(func() { killWorkers(t, s, a, b) })
	t.Log("three supervisors are killed")
	check(func() { killSupervisors(t, s, a, b) })
}

// mixedCall is a channel with a user in each browser.
func mixedCall(t *testing.T, s *server) (a, b *user) {
	t.Helper()
	one := newScene(t, s, lab.shared(t, chromium), newest)
	two := newScene(t, s, lab.shared(t, firefox), newest)
	two.channel = one.channel
	a = one.join(t, "ann", nil)
	two.users = one.users
	b = two.join(t, "bob", nil)
	one.users = two.users
	return a, b
}

// heardOn waits until each has received so many more packets of the other, and its
// tone.
func heardOn(t *testing.T, a, b *user) {
	t.Helper()
	pairs := map[*user]*user{a: b, b: a}
	from := map[*user]float64{}
	for listener, speaker := range pairs {
		from[listener] = listener.inbound(t)[speaker.name].Packets
	}
	for listener, speaker := range pairs {
		eventually(t, hearTimeout, func() error {
			if more := listener.inbound(t)[speaker.name].Packets - from[listener]; more < faultEvery {
				return fmt.Errorf("%s has %.0f more packets of %s", listener.name, more, speaker.name)
			}
			return listener.present(t, speaker)
		})
	}
}

func killWorkers(t *testing.T, s *server, a, b *user) {
	t.Helper()
	told := len(a.told(t)) + len(b.told(t))
	for range workerKills {
		s.killWorker(t)
		heardOn(t, a, b)
	}
	if ann, bob := a.told(t), b.told(t); len(ann)+len(bob) != told {
		t.Errorf("%d messages because of workers: %v %v", len(ann)+len(bob)-told, ann, bob)
	}
}

// killWorker kills the only worker and returns when its successor is ready.
func (s *server) killWorker(t *testing.T) {
	t.Helper()
	worker := s.onlyWorker(t)
	if err := syscall.Kill(int(worker.GetPid()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, startTimeout, func() error {
		if now := s.onlyWorker(t); now.GetState() != "ready" || now.GetPid() == worker.GetPid() {
			return fmt.Errorf("after process %d: %v", worker.GetPid(), now)
		}
		return nil
	})
}

// told are the messages that a user got unasked, but for heartbeats.
func (u *user) told(t *testing.T) []string {
	t.Helper()
	return slices.DeleteFunc(u.state(t).Events, func(kind string) bool { return kind == "ping" })
}

func (s *server) onlyWorker(t *testing.T) *adminv1.Worker {
	t.Helper()
	got, err := s.admin(t).ListWorkers(t.Context(), &adminv1.ListWorkersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.GetWorkers()) != 1 {
		t.Fatalf("workers: %v", got.GetWorkers())
	}
	return got.GetWorkers()[0]
}

func killSupervisors(t *testing.T, s *server, a, b *user) {
	t.Helper()
	for range supervisorKills {
		worker := s.onlyWorker(t).GetPid()
		if err := s.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-s.exited
		heardOn(t, a, b) // without a supervisor
		s.exited = make(chan struct{})
		s.start(t)
		if now := s.onlyWorker(t).GetPid(); now != worker {
			t.Errorf("the worker was %d and is %d", worker, now)
		}
		for _, u := range []*user{a, b} {
			u.call(t, "redial")
			if state := u.state(t); state.Connected != "dspeak session restored" {
				t.Errorf("%s was greeted by %q", u.name, state.Connected)
			}
		}
		heardOn(t, a, b)
	}
}

// concealed tells what the receivers had to make up for meanwhile.
func concealed(t *testing.T, users []*user, during func()) {
	t.Helper()
	type key struct{ listener, speaker string }
	read := func() map[key]inbound {
		all := map[key]inbound{}
		for _, u := range users {
			for speaker, got := range u.inbound(t) {
				all[key{u.name, speaker}] = got
			}
		}
		return all
	}
	before, began := read(), time.Now()
	during()
	took := time.Since(began).Round(100 * time.Millisecond)
	for k, now := range read() {
		was := before[k]
		samples := now.Samples - was.Samples
		t.Logf("%s from %s in %v: %.0f samples, %.0f concealed (%.2f %%), of them %.0f silent, in %.0f events; %.0f packets, %.0f lost", k.listener, k.speaker, took,
			samples, now.Concealed-was.Concealed, 100*(now.Concealed-was.Concealed)/max(samples, 1), now.SilentConcealed-was.SilentConcealed,
			now.Concealments-was.Concealments, now.Packets-was.Packets, now.Lost-was.Lost)
	}
}
