package process

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestStoppedWorkerBlamesNobody: whoever stops or kills a worker, what it had in hand has
// done nothing, and the state lives on however often that happens.
func TestStoppedWorkerBlamesNobody(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"stopped": syscall.SIGSTOP, "killed": syscall.SIGKILL, "asked to end": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			cfg.Spare, cfg.RestartBurst = true, 100
			p, _ := startPool(t, modeHolds, cfg)
			next(t, p, EventReady)
			for range maxSoon + 2 {
				eventually(t, "a worker", func() bool { return p.Workers()[0].State == StateReady })
				kill(t, p.Workers()[0].PID, signal)
				e := next(t, p, EventTakeover)
				if e.Epoch != 1 || len(e.Skipped) != 0 {
					t.Fatalf("takeover %+v", e)
				}
			}
		})
	}
}

// TestLoopThatRunsInCirclesIsBlamed: the router that keeps the loop from turning is left
// out after its third time.
func TestLoopThatRunsInCirclesIsBlamed(t *testing.T) {
	cfg := testConfig(t)
	cfg.Spare = true
	p, _ := startPool(t, modeCircles, cfg)
	next(t, p, EventReady)
	for generation := 2; ; generation++ {
		e := next(t, p, EventTakeover)
		if e.Epoch != 1 || !strings.Contains(e.Cause, "the media loop stands still") {
			t.Fatalf("takeover %+v", e)
		}
		if len(e.Skipped) == 0 && generation < 4 {
			continue
		}
		if !slices.Equal(e.Skipped, []uint64{poison}) || generation != 4 {
			t.Fatalf("skipped in generation %d: %+v", generation, e)
		}
		return
	}
}

// TestManySlotsDieAtOnce: one spare serves one of them, the others start processes of
// their own, and the spare is there again at once.
func TestManySlotsDieAtOnce(t *testing.T) {
	cfg := testConfig(t)
	cfg.Spare, cfg.Slots, cfg.Sockets = true, 6, make([]Sockets, 6)
	p, _ := startPool(t, modeGood, cfg)
	for range cfg.Slots {
		next(t, p, EventReady)
	}
	for range 3 {
		for _, w := range p.Workers() {
			kill(t, w.PID, syscall.SIGKILL)
		}
		for range cfg.Slots {
			if e := next(t, p, EventTakeover); e.Epoch != 1 {
				t.Fatalf("takeover %+v", e)
			}
		}
		eventually(t, "a process for each slot and a spare", func() bool { return len(p.others(0)) == cfg.Slots+1 })
	}
	for _, w := range p.Workers() {
		if w.State != StateReady || w.Takeovers != 3 {
			t.Errorf("worker %+v", w)
		}
	}
}

// TestStoppedSpareIsNotWaitedFor: a slot does not wait for a spare that cannot start.
func TestStoppedSpareIsNotWaitedFor(t *testing.T) {
	cfg := testConfig(t)
	cfg.Spare = true
	p, _ := startPool(t, modeGood, cfg)
	next(t, p, EventReady)
	worker := p.Workers()[0].PID
	var spares []int
	eventually(t, "a spare", func() bool { spares = p.others(worker); return len(spares) == 1 })
	kill(t, spares[0], syscall.SIGSTOP)
	eventually(t, "the spare stops", func() bool { return stopped(spares[0]) })
	kill(t, worker, syscall.SIGKILL)
	if e := next(t, p, EventTakeover); e.Generation != 2 {
		t.Fatalf("takeover %+v", e)
	}
	if p.Workers()[0].PID == spares[0] {
		t.Fatal("the stopped spare serves")
	}
	eventually(t, "the stopped spare ends", func() bool { return gone(spares[0]) })
}

// TestDeathsAfterServiceAreNotPausedFor kills a worker that has served long enough more
// often than the burst, with a restart in between.
func TestDeathsAfterServiceAreNotPausedFor(t *testing.T) {
	cfg := testConfig(t)
	cfg.Spare, cfg.RestartBurst = true, 1
	p, _ := startPool(t, modeGood, cfg)
	next(t, p, EventReady)
	for n := range 4 {
		time.Sleep(youngAge + 50*time.Millisecond)
		if n == 2 {
			go func() { _ = p.Restart(t.Context(), 0) }()
			next(t, p, EventTakeover)
			time.Sleep(youngAge + 50*time.Millisecond)
		}
		kill(t, p.Workers()[0].PID, syscall.SIGKILL)
		if e := next(t, p, EventTakeover); e.Epoch != 1 {
			t.Fatalf("takeover %+v", e)
		}
		if failures := p.keepers[0].policy.failures; failures != 0 {
			t.Fatalf("%v failures are booked", failures)
		}
	}
}
