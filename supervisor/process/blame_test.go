package process

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/dspeak/sfu/internal/ident"
)

// TestPoisonIsCondemned: the verdict comes before the process that leaves the router out,
// be it that the others crash while they serve or before.
func TestPoisonIsCondemned(t *testing.T) {
	for _, mode := range []string{modePoison, modePoisonEarly} {
		t.Run(mode, func(t *testing.T) {
			cfg := testConfig(t)
			cfg.Spare = true
			var p *testPool
			verdicts := make(chan Verdict, 10)
			served := make(chan ident.Generation, 10)
			ready := make(chan struct{})
			cfg.Condemn = func(v Verdict) {
				<-ready
				served <- p.Workers()[0].Generation
				verdicts <- v
			}
			p, _ = startPool(t, mode, cfg)
			close(ready)
			for { // it may crash before it is seen to be ready
				e := next(t, p, EventTakeover)
				if e.Epoch != 1 {
					t.Fatalf("the state is lost: %+v", e)
				}
				if len(e.Skipped) == 0 {
					continue // not blamed often enough yet
				}
				if !slices.Equal(e.Skipped, []uint64{poison}) || e.Generation != 4 || len(verdicts) != 1 {
					t.Fatalf("%d verdicts before the takeover %+v", len(verdicts), e)
				}
				if v, at := <-verdicts, <-served; v.Slot != 0 || v.Epoch != 1 || v.Mark != poison || v.Cause != "exit status 2" || at != 3 {
					t.Fatalf("verdict %+v in generation %d", v, at)
				}
				return
			}
		})
	}
}

// TestCursedStateIsGivenUp: leaving the router out does not help for ever. The count
// begins anew with the third crash, the first after which the router is left out.
func TestCursedStateIsGivenUp(t *testing.T) {
	p, _ := startPool(t, modeCursed, testConfig(t))
	if e := next(t, p, EventDown); e.Epoch != 1 || int(e.Generation) != 2+maxBlamed {
		t.Fatalf("down %+v", e)
	}
}

// TestStateOutlivesPoison plays ends of the processes of one slot.
func TestStateOutlivesPoison(t *testing.T) {
	type end struct {
		served time.Duration
		of     fate
	}
	young, old := youngAge/2, 2*youngAge
	for name, row := range map[string]struct {
		ends []end
		held bool
	}{
		"nobody knows why":                        {[]end{{old, ofItself}, {young, ofItself}, {young, ofItself}, {young, ofItself}}, false},
		"two, one that works, two":                {[]end{{old, ofItself}, {young, ofItself}, {young, ofItself}, {old, ofItself}, {young, ofItself}, {young, ofItself}}, true},
		"poison, and then a hang":                 {[]end{{old, ofRouter}, {young, ofRouter}, {young, ofRouter}, {young, ofItself}, {young, ofItself}}, true},
		"two poisons in turns":                    {slices.Repeat([]end{{young, ofRouter}}, 6), true},
		"killed again and again":                  {slices.Repeat([]end{{young, byOthers}}, 50), true},
		"poison without end":                      {slices.Repeat([]end{{young, ofRouter}}, 1+maxBlamed), false},
		"poison without end, and kills":           {append(slices.Repeat([]end{{young, ofRouter}, {young, byOthers}}, maxBlamed), end{young, ofRouter}), false},
		"poison now and then":                     {slices.Repeat([]end{{young, ofRouter}, {old, ofRouter}}, 3*maxBlamed), true},
		"crashes that are not soon are no reason": {slices.Repeat([]end{{old, ofItself}}, 50), true},
	} {
		t.Run(name, func(t *testing.T) {
			var s slotState
			if err := s.make(); err != nil {
				t.Fatal(err)
			}
			defer s.drop()
			now := time.Unix(1000, 0)
			for i, e := range row.ends {
				s.serves(now)
				now = now.Add(e.served)
				if s.died(now, "cause", e.of); s.held() != row.held && i == len(row.ends)-1 {
					t.Fatalf("after %d ends the state is held: %v", i+1, s.held())
				}
				if !s.held() && i < len(row.ends)-1 {
					t.Fatalf("given up after %d of %d ends", i+1, len(row.ends))
				}
			}
		})
	}
}

// TestManyPoisons: each router that is left out makes the state another one, once.
func TestManyPoisons(t *testing.T) {
	for name, row := range map[string]struct {
		marks []uint64
		held  bool
	}{
		"one after another": {[]uint64{1, 2, 3, 4, 5, 6, 7, 8, 9}, true},
		"the same":          {[]uint64{1, 1, 1, 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var s slotState
			if err := s.make(); err != nil {
				t.Fatal(err)
			}
			defer s.drop()
			now := time.Unix(1000, 0)
			for _, mark := range row.marks {
				for crash := range 3 {
					s.serves(now)
					now = now.Add(youngAge / 2)
					if crash == 2 {
						s.exclude(mark)
					}
					s.died(now, "cause", ofRouter)
				}
			}
			if s.held() != row.held {
				t.Errorf("the state is held: %v", s.held())
			}
		})
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
