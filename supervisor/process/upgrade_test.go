package process

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/dspeak/sfu/internal/errs"
)

// upgradeTo begins an upgrade to a program of another mode.
func upgradeTo(t *testing.T, p *testPool, mode string) (*Upgrade, error) {
	t.Helper()
	p.install(mode)
	return p.Upgrade(t.Context())
}

func TestUpgradeGoesOnWithTheState(t *testing.T) {
	cfg := testConfig(t)
	cfg.Slots, cfg.Sockets, cfg.Spare = 2, make([]Sockets, 2), true
	p, _ := startPool(t, modeGood, cfg)
	next(t, p, EventReady)
	next(t, p, EventReady)
	u, err := upgradeTo(t, p, modeNew)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Upgrade(t.Context()); !errors.Is(err, errs.ErrExists) {
		t.Errorf("a second upgrade: %v", err)
	}
	for slot := range p.keepers {
		if !u.Reads(0) {
			t.Fatal("the layouts differ")
		}
		if err := u.Roll(t.Context(), p.keepers[slot].slot, false); err != nil {
			t.Fatal(err)
		}
		if e := next(t, p, EventTakeover); e.Generation != 2 || e.Epoch != 1 || e.Cause != CauseRestart {
			t.Fatalf("rolled %+v", e)
		}
		if w := p.Workers()[slot]; w.Version != modeNew || w.Restarts != 0 {
			t.Fatalf("rolled to %+v", w)
		}
	}
	u.Commit()
	kill(t, p.Workers()[1].PID, syscall.SIGKILL)
	next(t, p, EventTakeover)
	if w := p.Workers()[1]; w.Version != modeNew {
		t.Fatalf("a crash brought %q back", w.Version)
	}
}

func TestUpgradeThatDoesNotServeIsRolledBack(t *testing.T) {
	for _, mode := range []string{modeIdle, modeNoTakeover, modeRefusesState} {
		t.Run(mode, func(t *testing.T) {
			cfg := testConfig(t)
			cfg.Spare = true
			p, _ := startPool(t, modeGood, cfg)
			next(t, p, EventReady)
			u, err := upgradeTo(t, p, mode)
			if err != nil {
				t.Fatal(err)
			}
			if err := u.Roll(t.Context(), 0, false); !errors.Is(err, errs.ErrUnavailable) || !strings.Contains(err.Error(), "former") {
				t.Fatalf("rolled: %v", err)
			}
			u.RollBack(t.Context())
			if e := next(t, p, EventTakeover); e.Epoch != 1 {
				t.Fatalf("the state is lost: %+v", e)
			}
			if w := p.Workers()[0]; w.State != StateReady || w.Version != modeGood {
				t.Fatalf("after the roll-back %+v", w)
			}
		})
	}
}

func TestProgramThatDoesNotStartIsNoUpgrade(t *testing.T) {
	for _, mode := range []string{modeSilent, modeStrange} {
		p, stop := startPool(t, modeGood, testConfig(t))
		next(t, p, EventReady)
		before := p.Workers()[0]
		if _, err := upgradeTo(t, p, mode); err == nil {
			t.Errorf("%s is an upgrade", mode)
		}
		if now := p.Workers()[0]; now.PID != before.PID || now.State != StateReady {
			t.Errorf("%s: the worker was touched: %+v", mode, now)
		}
		stop()
	}
}

// TestOtherLayoutBeginsWithNothing: such a program is told apart before any state is
// touched, and can have the slot once that is empty.
func TestOtherLayoutBeginsWithNothing(t *testing.T) {
	p, _ := startPool(t, modeGood, testConfig(t))
	next(t, p, EventReady)
	u, err := upgradeTo(t, p, modeOtherLayout)
	if err != nil {
		t.Fatal(err)
	}
	if u.Reads(0) {
		t.Fatal("the layouts are said to be the same")
	}
	if err := u.Roll(t.Context(), 0, true); err != nil {
		t.Fatal(err)
	}
	u.Commit()
	if e := next(t, p, EventDown); e.Cause != CauseUpgrade {
		t.Fatalf("down %+v", e)
	}
	if e := next(t, p, EventReady); e.Epoch != 2 || e.Generation != 2 {
		t.Fatalf("ready %+v", e)
	}
}
