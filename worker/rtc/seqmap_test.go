package rtc

import (
	"math/rand/v2"
	"testing"
)

func TestSeqMap(t *testing.T) {
	t.Run("numbers go on without a gap after an interruption", func(t *testing.T) {
		m := newSeqMap(100)
		for i, in := range []uint64{5000, 5001, 5002} {
			if out, ok := m.outgoing(in); !ok || out != uint64(100+i) {
				t.Fatalf("outgoing(%d) = %d, %v", in, out, ok)
			}
		}
		m.interrupt()
		if out, ok := m.outgoing(6000); !ok || out != 103 {
			t.Fatalf("after resume: %d, %v, want 103", out, ok)
		}
	})
	t.Run("a loss stays visible as a gap", func(t *testing.T) {
		m := newSeqMap(100)
		m.outgoing(10)
		if out, _ := m.outgoing(13); out != 103 {
			t.Fatalf("got %d, want 103", out)
		}
	})
	t.Run("a late packet takes its own place", func(t *testing.T) {
		m := newSeqMap(100)
		m.outgoing(10)
		m.outgoing(12)
		if out, ok := m.outgoing(11); !ok || out != 101 {
			t.Fatalf("got %d, %v, want 101", out, ok)
		}
		if out, _ := m.outgoing(13); out != 103 {
			t.Fatalf("got %d, want 103", out)
		}
	})
	t.Run("a packet from before the resume is dropped", func(t *testing.T) {
		m := newSeqMap(100)
		m.outgoing(10)
		m.interrupt()
		m.outgoing(20)
		if _, ok := m.outgoing(19); ok {
			t.Fatal("an old packet was mapped")
		}
	})
	t.Run("the outgoing number may be above the incoming one or below", func(t *testing.T) {
		low := newSeqMap(1)
		if out, _ := low.outgoing(1 << 40); out != 1 {
			t.Fatalf("got %d, want 1", out)
		}
		high := newSeqMap(0x7fff)
		if out, _ := high.outgoing(0); out != 0x7fff {
			t.Fatalf("got %d, want 0x7fff", out)
		}
	})
}

// TestSeqMapNeverRepeats forwards random streams with losses, late packets, wraps
// and interruptions: no outgoing number may appear twice, and each run starts right
// behind the highest number before it.
func TestSeqMapNeverRepeats(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m := newSeqMap(uint16(rng.UintN(1<<15-1)) + 1)
		used := map[uint64]bool{}
		fresh := map[uint64]bool{} // incoming numbers seen: replay protection drops repeats
		in := uint64(rng.UintN(1 << 16))
		highest := m.last
		interrupted := true
		for range 3000 {
			in += uint64(1 + rng.UintN(3)*rng.UintN(200))
			index := in
			if rng.UintN(5) == 0 {
				index = in - min(in, uint64(rng.UintN(100)))
			}
			if fresh[index] {
				continue
			}
			fresh[index] = true
			out, ok := m.outgoing(index)
			if ok {
				if used[out] {
					t.Fatalf("seed %d: %d used twice", seed, out)
				}
				if interrupted && out != highest+1 {
					t.Fatalf("seed %d: run starts at %d, want %d", seed, out, highest+1)
				}
				interrupted = false
				used[out] = true
				highest = max(highest, out)
			}
			if rng.UintN(100) == 0 {
				m.interrupt()
				interrupted = true
			}
		}
	}
}
