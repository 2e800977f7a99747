package rtp

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestReceptionCountsLossAndWrap(t *testing.T) {
	var r Reception
	seq := uint16(65530)
	for i := range 20 {
		if i != 4 && i != 12 {
			r.Update(seq, uint32(i)*960, uint32(i)*960)
		}
		seq++
	}
	rep := r.Report(9)
	if rep.SSRC != 9 || rep.TotalLost != 2 || rep.FractionLost != 2*256/20 || rep.HighestSequence != 1<<16|13 || rep.Jitter != 0 {
		t.Fatalf("report %+v", rep)
	}
	if second := r.Report(9); second.FractionLost != 0 || second.TotalLost != 2 {
		t.Fatalf("second report %+v", second)
	}
	r.Update(13, 0, 0) // a duplicate
	if r.Lost() != 1 || r.Received() != 19 {
		t.Fatalf("lost %d of %d after a duplicate", r.Lost(), r.Received())
	}
}

func TestFirstPacketsChangePlaces(t *testing.T) {
	for _, first := range []uint16{7, 0, 65535} { // 0: the earlier one is of the cycle before
		var r Reception
		for i, seq := range []uint16{first, first - 2, first + 1, first - 1} {
			r.Update(seq, 0, 0)
			if want := []int64{0, 1, 1, 0}[i]; r.Lost() != want {
				t.Fatalf("from %d on: %d lost after packet %d, want %d", first, r.Lost(), i, want)
			}
		}
		if r.Update(first-maxMisorder-3, 0, 0); r.Lost() != -1 {
			t.Fatalf("from %d on: %d lost after a stray", first, r.Lost())
		}
	}
}

func TestReceptionOfNothing(t *testing.T) {
	var r Reception
	if rep := r.Report(9); rep != (ReceptionReport{SSRC: 9}) || r.Lost() != 0 || r.Received() != 0 {
		t.Fatalf("report %+v", rep)
	}
}

func TestReportedLossIsBounded(t *testing.T) {
	var r Reception
	for i := range uint32(300) { // steps of 32767 numbers: nearly all are missing
		r.Update(uint16(i*32767), 0, 0)
	}
	if rep := r.Report(9); rep.TotalLost != maxTotalLost || rep.FractionLost != 255 {
		t.Fatalf("report %+v", rep)
	}
	var d Reception
	d.Update(1, 0, 0)
	for range 100 {
		d.Update(1, 0, 0)
	}
	if rep := d.Report(9); rep.TotalLost != -100 || rep.FractionLost != 0 {
		t.Fatalf("report on duplicates %+v", rep)
	}
}

func TestJitterConverges(t *testing.T) {
	var r Reception
	for i := range 500 {
		r.Update(uint16(i), uint32(i)*960, uint32(i)*960+uint32(i%2)*48)
	}
	if math.Abs(r.Jitter()-48) > 3 {
		t.Fatalf("jitter %v, want about 48", r.Jitter())
	}
}

func TestJitterSurvivesTheWrapOfItsClocks(t *testing.T) {
	var r Reception
	for i := range uint32(100) {
		r.Update(uint16(i), math.MaxUint32-48000+i*960, math.MaxUint32-1000+i*960)
	}
	if r.Jitter() != 0 {
		t.Fatalf("jitter %v", r.Jitter())
	}
}

// twinReception counts with sets and whole numbers what Reception counts with
// wrapping ones.
type twinReception struct {
	first, highest, received int
	transit                  int
	jitter                   float64
	wantBefore, gotBefore    int
}

func (r *twinReception) update(seq, timestamp, arrival int) {
	r.received++
	if r.received == 1 {
		r.first, r.highest, r.transit = seq, seq, arrival-timestamp
		return
	}
	r.highest, r.first = max(r.highest, seq), min(r.first, seq)
	d := math.Abs(float64(arrival - timestamp - r.transit))
	r.transit = arrival - timestamp
	r.jitter += (d - r.jitter) / 16
}

func (r *twinReception) report() ReceptionReport {
	want := r.highest - r.first + 1
	rep := ReceptionReport{TotalLost: int32(want - r.received), HighestSequence: uint32(r.highest), Jitter: uint32(r.jitter)}
	interval, got := want-r.wantBefore, r.received-r.gotBefore
	r.wantBefore, r.gotBefore = want, r.received
	if interval > got {
		rep.FractionLost = uint8(min((interval-got)*256/interval, 255))
	}
	return rep
}

func TestReceptionEqualsItsTwin(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 3))
		var r Reception
		var twin twinReception
		first := rng.IntN(1 << 16)
		offset := int(rng.Uint32())
		for i := range 20000 { // 65536 numbers go by more than once
			at := first + 10*i + rng.IntN(40) // late, lost and doubled ones
			arrival := i*9600 + rng.IntN(2000)
			r.Update(uint16(at), uint32(offset+at*960), uint32(arrival))
			twin.update(at, offset+at*960, arrival)
			if rng.IntN(50) == 0 {
				if got, want := r.Report(0), twin.report(); got != want {
					t.Fatalf("seed %d, packet %d: %+v, want %+v", seed, i, got, want)
				}
			}
		}
	}
}

func BenchmarkReception(b *testing.B) {
	var r Reception
	var seq uint16
	b.ReportAllocs()
	for b.Loop() {
		seq++
		r.Update(seq, uint32(seq)*960, uint32(seq)*960+uint32(seq&15))
	}
}
