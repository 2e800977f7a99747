package e2e

import (
	"fmt"
	"strconv"
	"syscall"
	"testing"
	"time"

	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
)

// TestWorkerDeath ends a worker in the middle of a call: another process goes on with
// it, and nobody is told anything.
func TestWorkerDeath(t *testing.T) {
	signal := func(signal syscall.Signal) func(*testing.T, *server, *adminv1.Worker) {
		return func(t *testing.T, _ *server, victim *adminv1.Worker) {
			t.Helper()
			if err := syscall.Kill(int(victim.GetPid()), signal); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, row := range []struct {
		name   string
		end    func(*testing.T, *server, *adminv1.Worker)
		silent bool // the main server is not told either
	}{
		{"killed", signal(syscall.SIGKILL), false},
		{"crashed", signal(syscall.SIGSEGV), false},
		{"hung", signal(syscall.SIGSTOP), false},
		{"restarted by the operator", func(t *testing.T, s *server, victim *adminv1.Worker) {
			t.Helper()
			out, err := s.dspeakctl(t, "restart", strconv.Itoa(int(victim.GetSlot())))
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			t.Log(out)
		}, true},
	} {
		t.Run(row.name, func(t *testing.T) { testWorkerDeath(t, row.end, row.silent) })
	}
}

func testWorkerDeath(t *testing.T, end func(*testing.T, *server, *adminv1.Worker), silent bool) {
	t.Helper()
	main := newMainServer(t)
	s := startServer(t, settings{main: main, workers: 2})
	speaker := s.enterPion(t, "ann", "crash", pionOptions{})
	listener := s.enterPion(t, "bob", "crash", pionOptions{})
	speaker.speak(t)
	listener.hear(t, speaker.producer)
	eventually(t, 20*time.Second, listener.hearing(50))
	bystander := s.enterPion(t, "cid", "elsewhere", pionOptions{})
	bystander.speak(t)
	bystander.hear(t, bystander.producer)

	victim := s.busyFor(t, "crash")
	main.forget()
	told := map[*pionUser]int{speaker: len(speaker.all()), listener: len(listener.all())}
	firstNumber, firstCount := listener.last.Load(), listener.received.Load()
	died := time.Now()
	end(t, s, victim)
	eventually(t, startTimeout, func() error {
		got, err := s.admin(t).ListWorkers(t.Context(), &adminv1.ListWorkersRequest{})
		if err != nil {
			return err
		}
		for _, worker := range got.GetWorkers() {
			if worker.GetSlot() == victim.GetSlot() && worker.GetState() == "ready" && worker.GetPid() != victim.GetPid() &&
				worker.GetTakeovers() == 1 && worker.GetEpoch() == victim.GetEpoch() {
				t.Logf("taken over within %v, %.1f ms from the notice of the death", time.Since(died), worker.GetLastTakeoverMs())
				return nil
			}
		}
		return fmt.Errorf("no new worker in slot %d: %v", victim.GetSlot(), got)
	})
	eventually(t, 20*time.Second, listener.hearing(50))
	eventually(t, 20*time.Second, bystander.hearing(20))
	number, count := listener.last.Load(), listener.received.Load()
	t.Logf("%d packets lost", (number-firstNumber)-(count-firstCount))
	for u, known := range told {
		if now := u.all(); len(now) != known {
			t.Errorf("%s was told %s", u.name, now[known].raw)
		}
	}
	// Calls go on where the former process stopped: a latecomer hears the same producer.
	late := s.enterPion(t, "dan", "crash", pionOptions{})
	late.hear(t, speaker.producer)
	eventually(t, 20*time.Second, late.hearing(20))
	speaker.must(t, "close-producer", map[string]any{"producerId": speaker.producer}, "producer-closed")
	status := func(want string) func(message) bool {
		return func(m message) bool { return m.Type == "sfu_status" && m.Status == want }
	}
	if silent {
		return
	}
	eventually(t, answerTimeout, main.got("sfu_status error", status("error")))
	eventually(t, startTimeout, main.got("sfu_status ok", status("ok")))
}

// busyFor is the worker of a channel.
func (s *server) busyFor(t *testing.T, channel string) *adminv1.Worker {
	t.Helper()
	got, err := s.admin(t).GetChannel(t.Context(), &adminv1.GetChannelRequest{ChannelId: channel})
	if err != nil {
		t.Fatal(err)
	}
	workers, err := s.admin(t).ListWorkers(t.Context(), &adminv1.ListWorkersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, worker := range workers.GetWorkers() {
		if worker.GetSlot() == got.GetSummary().GetWorkerSlot() {
			return worker
		}
	}
	t.Fatalf("no worker of %s in %v", channel, workers)
	return nil
}
