package ledger

import (
	"math/rand/v2"
	"testing"
)

// TestWindowAgainstAMap marks random numbers, late, repeated and far ahead.
func TestWindowAgainstAMap(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var w Window
		came := map[uint64]bool{}
		highest, started := uint64(0), false
		n := rng.Uint64N(1 << 20)
		for range 3000 {
			switch rng.IntN(20) {
			case 0:
				n += rng.Uint64N(1000)
			case 1:
				n += wordBits * rng.Uint64N(6)
			default:
				n++
			}
			at := n
			if rng.IntN(4) == 0 {
				at -= min(at, rng.Uint64N(200))
			}
			want := !started || at > highest || highest-at < WindowSize && !came[at]
			if got := w.Fresh(at); got != want {
				t.Fatalf("seed %d: fresh(%d) = %v with highest %d", seed, at, got, highest)
			}
			if !want {
				continue
			}
			w.Mark(at)
			came[at] = true
			highest, started = max(highest, at), true
			if w.Fresh(at) || w.Highest() != highest || !w.Started() {
				t.Fatalf("seed %d: %d marked, highest %d, want %d", seed, at, w.Highest(), highest)
			}
		}
	}
}

func TestWindowAtZero(t *testing.T) {
	var w Window
	if w.Started() || !w.Fresh(0) {
		t.Fatal("not empty")
	}
	w.Mark(0)
	if !w.Started() || w.Fresh(0) || !w.Fresh(1) || w.Highest() != 0 {
		t.Fatal("zero is not marked")
	}
}

func TestMapping(t *testing.T) {
	var m Mapping
	m.Start(99)
	if _, _, last, synced := m.Load(5000); last != 99 || synced {
		t.Fatalf("before the first run: %d, %v", last, synced)
	}
	m.Begin(100-5000, 5000)
	offset, from, last, synced := m.Load(5010)
	if offset != -4900 || from != 5000 || last != 110 || !synced {
		t.Fatalf("within a run: %d %d %d %v", offset, from, last, synced)
	}
	m.End(108)
	if _, _, last, synced := m.Load(9000); last != 108 || synced {
		t.Fatalf("between two runs: %d, %v", last, synced)
	}
}

func TestSeenBelow(t *testing.T) {
	for next := range uint64(3 * WindowSize) {
		// Behind a jump it knows the same as a window that saw all of them.
		for _, jump := range []uint64{0, 1, wordBits - 1, wordBits, WindowSize - 1, 3 * WindowSize} {
			var w, twin Window
			w.SeenBelow(next)
			for n := range next {
				twin.Mark(n)
			}
			w.Mark(next + jump)
			twin.Mark(next + jump)
			for n := range next + jump + 2 {
				if w.Fresh(n) != twin.Fresh(n) {
					t.Fatalf("seen below %d, then %d: fresh(%d) is %v", next, next+jump, n, w.Fresh(n))
				}
			}
		}
	}
}
