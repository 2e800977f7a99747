package rtp

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestNackGeneratorAsksThreeTimes(t *testing.T) {
	var g NackGenerator
	g.Seen(65534, 0)
	g.Seen(1, 0) // 65535 and 0 are missing
	if got := g.Due(nil, 0, 0); len(got) != 0 {
		t.Fatalf("asks at once for %v", got)
	}
	asked := 0
	for now := time.Duration(0); now < time.Second; now += 10 * time.Millisecond {
		if now == 30*time.Millisecond {
			g.Seen(0, now) // late, but there
		}
		for _, seq := range g.Due(nil, now, 0) {
			if seq == 0 && now > 30*time.Millisecond {
				t.Fatal("asks for a packet that came")
			}
			if seq == 65535 {
				asked++
			}
		}
	}
	if asked != nackTries || g.Pending() {
		t.Fatalf("asked %d times, pending %v", asked, g.Pending())
	}
}

func TestNackGeneratorWaitsARoundTrip(t *testing.T) {
	var g NackGenerator
	g.Seen(1, 0)
	g.Seen(3, 0)
	var at []time.Duration
	for now := time.Duration(0); now < time.Second; now += time.Millisecond {
		if len(g.Due(nil, now, 100*time.Millisecond)) > 0 {
			at = append(at, now)
		}
	}
	if want := []time.Duration{nackDelay, nackDelay + 100*time.Millisecond, nackDelay + 200*time.Millisecond}; !slices.Equal(at, want) {
		t.Fatalf("asked at %v, want %v", at, want)
	}
}

func TestNackGeneratorForgets(t *testing.T) {
	t.Run("a reordered packet in time", func(t *testing.T) {
		var g NackGenerator
		for _, seq := range []uint16{1, 3, 2, 4} {
			g.Seen(seq, 0)
		}
		if g.Pending() {
			t.Fatal("pending")
		}
	})
	t.Run("what is too far back", func(t *testing.T) {
		var g NackGenerator
		g.Seen(1, 0)
		g.Seen(3, 0)
		for seq := uint16(4); seq <= 3+nackReach; seq++ {
			g.Seen(seq, 0)
		}
		if got := g.Due(nil, time.Second, 0); len(got) != 0 || g.Pending() {
			t.Fatalf("asks for %v", got)
		}
	})
	t.Run("the oldest when more are missing than it remembers", func(t *testing.T) {
		var g NackGenerator
		for seq := uint16(0); seq <= 40; seq += 2 {
			g.Seen(seq, 0)
		}
		g.Seen(60, 0)
		got := g.Due(nil, time.Second, 0)
		if len(got) != nackWindow || got[len(got)-1] != 59 || !slices.IsSorted(got) {
			t.Fatalf("asks for %v", got)
		}
	})
	t.Run("all before a long pause", func(t *testing.T) {
		var g NackGenerator
		g.Seen(1, 0)
		g.Seen(20001, 0)
		got := g.Due(nil, time.Second, 0)
		if len(got) != nackWindow || got[0] != 20001-nackWindow {
			t.Fatalf("asks for %v", got)
		}
	})
}

// Random streams: a packet that arrived is never asked for, none more than three
// times, and the answer ascends.
func TestNackGeneratorOnRandomStreams(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 5))
		var g NackGenerator
		seen, asked := map[uint16]bool{}, map[uint16]int{}
		base := uint16(rng.Uint32())
		for i := range 2000 {
			now := time.Duration(i) * 20 * time.Millisecond
			seq := base + uint16(i)
			if rng.IntN(4) == 0 {
				seq -= uint16(rng.IntN(30))
			}
			if rng.IntN(5) > 0 {
				g.Seen(seq, now)
				seen[seq] = true
			}
			due := g.Due(nil, now, time.Duration(rng.IntN(100))*time.Millisecond)
			for j, s := range due {
				asked[s]++
				if seen[s] || asked[s] > nackTries || j > 0 && int16(s-due[j-1]) <= 0 {
					t.Fatalf("seed %d: asks for %v, %d seen %v, %d times", seed, due, s, seen[s], asked[s])
				}
			}
		}
		if len(asked) < 100 {
			t.Fatalf("seed %d: asked for %d only", seed, len(asked))
		}
	}
}

func BenchmarkNackGenerator(b *testing.B) {
	var g NackGenerator
	var seq uint16
	dst := make([]uint16, 0, nackWindow)
	b.ReportAllocs()
	for b.Loop() {
		seq++
		if seq%50 == 0 { // 2 % are lost
			continue
		}
		now := time.Duration(seq) * 20 * time.Millisecond
		g.Seen(seq, now)
		if g.Pending() {
			dst = g.Due(dst[:0], now, 0)
		}
	}
}
