package load

import (
	"math"
	"testing"
)

// taken returns the next sizes of the pattern.
func taken(p pattern, slots int) []int {
	var all []int
	for range slots {
		all = append(all, p.next())
	}
	return all
}

func TestConstantSizes(t *testing.T) {
	for _, size := range taken(newPattern(valid(), 0), 1000) {
		if size != 120 {
			t.Fatalf("a constant payload of %d bytes", size)
		}
	}
}

func TestOpusSizesAreThoseOfSpeech(t *testing.T) {
	cfg := valid()
	cfg.Sizes = SizesOpus
	sum, different := 0, map[int]bool{}
	for _, size := range taken(newPattern(cfg, 0), len(opusSizes)) {
		if size < 20 || size > 200 {
			t.Fatalf("a packet of speech has %d bytes", size)
		}
		sum += size
		different[size] = true
	}
	// 32 kbit/s are 80 bytes in 20 ms.
	if mean := float64(sum) / float64(len(opusSizes)); math.Abs(mean-80) > 4 || len(different) < 40 {
		t.Fatalf("mean %.1f, %d different sizes", mean, len(different))
	}
	if newPattern(cfg, 0).at == newPattern(cfg, 1).at {
		t.Fatal("two speakers say the same at the same time")
	}
}

func TestDTXPauses(t *testing.T) {
	cfg := valid()
	cfg.DTX = true
	const slots = 200_000
	counts, gap := map[int]int{}, 0
	for _, size := range taken(newPattern(cfg, 7), slots) {
		counts[size]++
		if size > 0 {
			gap = 0
			continue
		}
		if gap++; gap >= 20 {
			t.Fatal("nothing for 400 ms")
		}
	}
	spoken := float64(counts[120]) / slots
	if want := float64(talkMean) / float64(talkMean+pauseMean); math.Abs(spoken-want) > 0.03 {
		t.Fatalf("speaks %.3f of the time, want %.3f", spoken, want)
	}
	if len(counts) != 3 || counts[comfortSize] < slots/50 {
		t.Fatalf("sizes %v", counts)
	}
}

func TestDTXIsRepeatable(t *testing.T) {
	cfg := valid()
	cfg.DTX, cfg.Sizes = true, SizesOpus
	a, b := taken(newPattern(cfg, 3), 5000), taken(newPattern(cfg, 3), 5000)
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("slot %d has %d bytes, then %d", i, a[i], b[i])
		}
	}
}
