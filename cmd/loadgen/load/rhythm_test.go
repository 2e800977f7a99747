package load

import (
	"errors"
	"io"
	"slices"
	"testing"
	"time"
)

func TestWindowsPlaceSlots(t *testing.T) {
	cfg := valid()
	cfg.Rounds = 2 // of 25 slots
	w := newWindows(cfg)
	if _, _, ok := w.place(3); ok {
		t.Fatal("a slot counts before any window began")
	}
	w.begin(10)
	w.begin(100)
	for slot, want := range map[int64][2]int{10: {0, 0}, 34: {0, 24}, 100: {1, 25}, 124: {1, 49}} {
		if round, index, ok := w.place(slot); !ok || round != want[0] || index != want[1] {
			t.Errorf("slot %d is packet %d of round %d, %v; want %v", slot, index, round, ok, want)
		}
	}
	for _, slot := range []int64{0, 9, 35, 99, 125, 1 << 40, -1} {
		if _, _, ok := w.place(slot); ok {
			t.Errorf("slot %d counts", slot)
		}
	}
}

func TestPhases(t *testing.T) {
	cfg := valid()
	if p := phases(cfg, 4); p[0] != 0 || p[3] != 15*time.Millisecond {
		t.Fatalf("uniform phases %v", p)
	}
	cfg.Phases = PhasesAligned
	if p := phases(cfg, 4); slices.Max(p) != 0 {
		t.Fatalf("aligned phases %v", p)
	}
	cfg.Phases = PhasesRandom
	p := phases(cfg, 100)
	if slices.Max(p) >= cfg.PacketTime || slices.Max(p)-slices.Min(p) < cfg.PacketTime/2 || slices.IsSorted(p) {
		t.Fatalf("random phases %v", p)
	}
	if !slices.Equal(p, phases(cfg, 100)) {
		t.Fatal("random phases are not those of the last run")
	}
}

// played returns the next beats of the rhythm.
func played(t *testing.T, r *rhythm, slots int) []beat {
	t.Helper()
	var all []beat
	if err := r.play(1000, slots, func(b beat) error { all = append(all, b); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestRhythmIsTheSameForBothProcesses(t *testing.T) {
	cfg := valid()
	cfg.DTX, cfg.Sizes, cfg.Phases = true, SizesOpus, PhasesRandom
	pacer, floor := newRhythm(cfg), newRhythm(cfg)
	played(t, pacer, 50)
	floor.skip(50)
	a, b := played(t, pacer, 200), played(t, floor, 200)
	if !slices.Equal(a, b) {
		t.Fatal("two rhythms of one configuration differ")
	}
	if !slices.IsSortedFunc(a, func(x, y beat) int { return int(x.due - y.due) }) {
		t.Fatal("packets are not played in order of their time")
	}
	if err := pacer.play(0, 1, func(beat) error { return io.EOF }); !errors.Is(err, io.EOF) {
		t.Fatalf("an error of a packet gives %v", err)
	}
}
