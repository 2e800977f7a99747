package process

import (
	"slices"
	"syscall"
	"testing"
	"time"
)

func TestPoisonIsSkipped(t *testing.T) {
	cfg := testConfig(t)
	cfg.Spare = true
	p, _ := startPool(t, modePoison, cfg)
	for { // it crashes before it is seen to be ready
		e := next(t, p, EventTakeover)
		if e.Epoch != 1 {
			t.Fatalf("the state is lost: %+v", e)
		}
		if len(e.Skipped) == 0 {
			continue // not blamed often enough yet
		}
		if !slices.Equal(e.Skipped, []uint64{poison}) || e.Generation != 4 {
			t.Fatalf("skipped %+v", e)
		}
		return
	}
}

func TestBlames(t *testing.T) {
	var b blames
	now := time.Unix(1000, 0)
	for i, step := range []struct {
		mark uint64
		want bool
	}{{1, false}, {1, false}, {2, false}, {1, true}, {1, false}} { // the third crash makes poison, which begins anew
		if got := b.note(step.mark, now); got != step.want {
			t.Fatalf("step %d: poison %v", i, got)
		}
	}
	if b.note(2, now.Add(blameHalfLife)) || b.note(2, now.Add(2*blameHalfLife)) {
		t.Fatal("nothing is forgotten")
	}
	if b.note(3, now.Add(10*blameHalfLife)); len(b.counts) != 1 {
		t.Fatalf("%d routers are remembered", len(b.counts))
	}
}

func TestReserveSleepsUntilItIsWoken(t *testing.T) {
	cfg := testConfig(t)
	cfg.Slots, cfg.Sockets, cfg.Reserve = 2, make([]Sockets, 2), true
	p, _ := startPool(t, modeGood, cfg)
	if e := next(t, p, EventReady); e.Slot != 0 || len(p.Workers()) != 1 {
		t.Fatalf("ready %+v, workers %+v", e, p.Workers())
	}
	if _, _, ok := p.Client(1); ok || p.Drain(1, true) || p.Restart(t.Context(), 1) == nil {
		t.Fatal("one can act on a sleeper")
	}
	p.Wake()
	p.Wake()
	if e := next(t, p, EventReady); e.Slot != 1 || len(p.Workers()) != 2 || !p.Workers()[1].Reserve {
		t.Fatalf("woken %+v, workers %+v", e, p.Workers())
	}
}

func TestStoppedProcess(t *testing.T) {
	p, _ := startPool(t, modeGood, testConfig(t))
	next(t, p, EventReady)
	pid := p.Workers()[0].PID
	if stopped(pid) {
		t.Fatal("it runs")
	}
	kill(t, pid, syscall.SIGSTOP)
	eventually(t, "the process stops", func() bool { return stopped(pid) })
	kill(t, pid, syscall.SIGCONT)
}
