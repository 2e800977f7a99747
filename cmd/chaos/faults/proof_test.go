package faults

import (
	"math/rand/v2"
	"testing"
)

func TestExtend(t *testing.T) {
	for _, row := range []struct {
		name     string
		highest  uint64
		sequence uint16
		want     uint64
	}{
		{"the next", 5, 6, 6},
		{"an older one", 500, 400, 400},
		{"over the end", 65535, 0, 65536},
		{"far over the end", 65000, 12000, 65536 + 12000},
		{"back before the end", 65536 + 3, 65530, 65530},
		{"in a later round", 7<<16 + 100, 101, 7<<16 + 101},
		{"late, in a later round", 7<<16 + 40000, 30000, 7<<16 + 30000},
	} {
		t.Run(row.name, func(t *testing.T) {
			x := indexes{started: true, highest: row.highest}
			if got := x.extend(row.sequence); got != row.want {
				t.Errorf("sequence number %d after %d is %d, want %d", row.sequence, row.highest, got, row.want)
			}
		})
	}
}

// TestExtendFollows plays a long stream with jumps and late packets.
func TestExtendFollows(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	x := indexes{}
	x.note(65000, 1)
	for range 100_000 {
		at := x.highest - uint64(random.IntN(30_000))
		if random.IntN(5) > 0 {
			at = x.highest + 1 + uint64(random.IntN(3)*random.IntN(5000))
		}
		if got := x.extend(uint16(at)); got != at {
			t.Fatalf("after %d: %d for %d", x.highest, got, at)
		}
		if v := x.note(at, uint32(at)); v != fresh && v != repeated {
			t.Fatalf("index %d: %d", at, v)
		}
		if n := len(x.chunks); n > chunksKept {
			t.Fatalf("%d pieces are kept", n)
		}
	}
}

func TestProofTellsReuse(t *testing.T) {
	for _, row := range []struct {
		name        string
		index, hash uint64
		want        verdict
	}{
		{"a new index", 101, 9, fresh},
		{"the same bytes again", 90, 90, repeated},
		{"other bytes", 90, 91, clash},
		{"other bytes of the first packet", 1, 7, clash},
	} {
		t.Run(row.name, func(t *testing.T) {
			var x indexes
			s := sparse{}
			for i := uint64(1); i <= 100; i++ {
				if x.note(i, uint32(i)) != fresh || s.note(uint32(i), uint32(i)) != fresh {
					t.Fatalf("index %d is not fresh", i)
				}
			}
			if got := x.note(row.index, uint32(row.hash)); got != row.want {
				t.Errorf("RTP: %d, want %d", got, row.want)
			}
			if got := s.note(uint32(row.index), uint32(row.hash)); got != row.want {
				t.Errorf("RTCP: %d, want %d", got, row.want)
			}
		})
	}
	var x indexes
	x.note(1<<20, 1)
	if got := x.note(1<<20-1<<15-chunkSize, 1); got != unchecked {
		t.Errorf("an index before the record: %d", got)
	}
}
