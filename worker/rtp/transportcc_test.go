package rtp

import (
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/pion/rtcp"
)

// feedback is pion's reading of the next feedback packet.
func feedback(tb testing.TB, cc *TransportCC) *rtcp.TransportLayerCC {
	tb.Helper()
	b := cc.AppendFeedback(nil, 1, 2)
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		tb.Fatal(err)
	}
	f, ok := packets[0].(*rtcp.TransportLayerCC)
	if !ok || len(packets) != 1 || len(b) > 606 || f.SenderSSRC != 1 || f.MediaSSRC != 2 {
		tb.Fatalf("feedback %+v of %d bytes", packets, len(b))
	}
	return f
}

// told lists what a feedback says: arrival by number, 0 for a missing packet.
func told(f *rtcp.TransportLayerCC) map[uint16]int64 {
	all := map[uint16]int64{}
	at, seq, deltas := int64(f.ReferenceTime)*referenceUnit, f.BaseSequenceNumber, f.RecvDeltas
	for _, chunk := range f.PacketChunks {
		vector, ok := chunk.(*rtcp.StatusVectorChunk)
		if !ok {
			return nil
		}
		for _, symbol := range vector.SymbolList {
			if len(all) == int(f.PacketStatusCount) {
				break
			}
			all[seq] = 0
			if symbol != rtcp.TypeTCCPacketNotReceived {
				at += deltas[0].Delta
				all[seq], deltas = at, deltas[1:]
			}
			seq++
		}
	}
	return all
}

// tells checks a feedback against arrivals, 0 for missing ones.
func tells(tb testing.TB, f *rtcp.TransportLayerCC, want map[uint16]int64) {
	tb.Helper()
	got := told(f)
	if len(got) != len(want) {
		tb.Fatalf("tells of %v, want %v", got, want)
	}
	for seq, at := range want {
		if reported, ok := got[seq]; !ok || (reported == 0) != (at == 0) || !near(reported, at) {
			tb.Fatalf("packet %d arrived at %d, want %d", seq, reported, at)
		}
	}
}

// near allows for rounding, which does not add up.
func near(a, b int64) bool { return max(a, b)-min(a, b) < deltaUnit }

const someTime = int64(10_000_000)

func TestTransportFeedbackIsReadByPion(t *testing.T) {
	var cc TransportCC
	want := map[uint16]int64{
		65534: someTime, 65535: someTime + 300, 0: 0, 1: someTime + 90_000, 2: someTime + 80_000, 3: 0, 4: 0, 5: someTime + 200_000,
	}
	for _, seq := range []uint16{65534, 65535, 2, 1, 5} {
		cc.Record(seq, want[seq])
	}
	f := feedback(t, &cc)
	if f.BaseSequenceNumber != 65534 || f.FbPktCount != 0 {
		t.Fatalf("feedback %+v", f)
	}
	tells(t, f, want)
	if cc.Pending() || len(cc.AppendFeedback(nil, 1, 2)) != 0 {
		t.Error("a second feedback without packets")
	}
}

func TestLossBetweenTwoFeedbacksIsTold(t *testing.T) {
	var cc TransportCC
	cc.Record(10, someTime)
	tells(t, feedback(t, &cc), map[uint16]int64{10: someTime})
	cc.Record(13, someTime+40_000)
	f := feedback(t, &cc)
	tells(t, f, map[uint16]int64{11: 0, 12: 0, 13: someTime + 40_000})
	if f.FbPktCount != 1 {
		t.Errorf("count %d", f.FbPktCount)
	}
}

func TestLatePacketIsToldAfterAll(t *testing.T) {
	var cc TransportCC
	cc.Record(10, someTime)
	cc.Record(12, someTime+1000)
	tells(t, feedback(t, &cc), map[uint16]int64{10: someTime, 11: 0, 12: someTime + 1000})
	cc.Record(11, someTime+50_000)
	cc.Record(11, someTime+60_000) // a duplicate
	tells(t, feedback(t, &cc), map[uint16]int64{11: someTime + 50_000, 12: someTime + 1000})
	cc.Record(12, someTime+70_000)
	if cc.Pending() {
		t.Error("a duplicate is pending")
	}
}

func TestTooLatePacketIsIgnored(t *testing.T) {
	var cc TransportCC
	cc.Record(1000, someTime)
	cc.Record(1000-transportWindow, someTime)
	tells(t, feedback(t, &cc), map[uint16]int64{1000: someTime})
	cc.Record(999, 0) // a time of 0 still is an arrival
	if !cc.Pending() {
		t.Error("an arrival at 0 is none")
	}
}

func TestTransportFeedbackSurvivesJumps(t *testing.T) {
	var cc TransportCC
	for i, seq := range []uint16{0, 200, 300, 40000, 40001, 39000, 65535, 5} {
		cc.Record(seq, someTime+int64(i)*20_000_000) // longer than a delta can say
		for rounds := 0; cc.Pending(); rounds++ {
			if f := feedback(t, &cc); f.PacketStatusCount == 0 || rounds > 3 {
				t.Fatalf("after %d, round %d: %+v", seq, rounds, f)
			}
		}
	}
}

func TestPauseLongerThanADeltaEndsAFeedback(t *testing.T) {
	var cc TransportCC
	cc.Record(1, someTime)
	cc.Record(4, someTime+20_000_000)
	cc.Record(5, someTime)
	tells(t, feedback(t, &cc), map[uint16]int64{1: someTime, 2: 0, 3: 0})
	tells(t, feedback(t, &cc), map[uint16]int64{4: someTime + 20_000_000})
	tells(t, feedback(t, &cc), map[uint16]int64{5: someTime})
	if cc.Pending() {
		t.Error("pending")
	}
}

func TestJumpForgetsWhatWasBefore(t *testing.T) {
	var cc TransportCC
	cc.Record(1, someTime)
	cc.Record(1001, someTime+1000)
	got := told(feedback(t, &cc))
	if len(got) != transportWindow || !near(got[1001], someTime+1000) {
		t.Fatalf("tells of %d packets", len(got))
	}
	for seq, at := range got {
		if seq != 1001 && at != 0 {
			t.Fatalf("packet %d arrived at %d", seq, at)
		}
	}
}

// Random streams with losses, reordering and wraps: the last thing told of each
// packet is the truth, nothing is left out, and nothing is told of one that comes
// too late.
func TestTransportFeedbackTellsAll(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var cc TransportCC
		arrived, last := map[uint16]int64{}, map[uint16]int64{}
		first := uint16(rng.Uint32())
		const packets = 20000
		order := make([]int, 0, packets)
		for i := range packets {
			if i == 0 || rng.IntN(10) > 0 {
				order = append(order, i)
			}
		}
		for i := 1; i+5 < len(order); i++ { // moves of up to five places
			if rng.IntN(10) == 0 {
				j := i + rng.IntN(5)
				order[i], order[j] = order[j], order[i]
			}
		}
		now := someTime
		for _, i := range order {
			now += int64(rng.IntN(20_000))
			seq := first + uint16(i)
			cc.Record(seq, now)
			arrived[seq] = now
			if rng.IntN(8) > 0 && i != order[len(order)-1] {
				continue
			}
			for cc.Pending() {
				maps.Copy(last, told(feedback(t, &cc)))
			}
		}
		for seq, at := range arrived {
			if got, ok := last[seq]; !ok || got == 0 || !near(got, at) {
				t.Fatalf("seed %d: packet %d arrived at %d, told %d, %v", seed, seq, at, got, ok)
			}
		}
		for seq, at := range last {
			if at != 0 && arrived[seq] == 0 {
				t.Fatalf("seed %d: packet %d never arrived, told %d", seed, seq, at)
			}
		}
	}
}

// FuzzTransportCC: whatever arrives, what is built can be read, and comes to an end.
func FuzzTransportCC(f *testing.F) {
	f.Add([]byte{0, 1, 0, 20, 0, 2, 0, 20, 0, 9, 200, 0, 255, 255, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), maxFuzz)]
		var cc TransportCC
		now := someTime
		for ; len(b) >= 4; b = b[4:] {
			now += int64(b[2])<<18 + int64(b[3])*100
			cc.Record(uint16(b[0])<<8|uint16(b[1]), now)
			if b[3]&3 != 0 {
				continue
			}
			for rounds := 0; cc.Pending(); rounds++ {
				if feedback(t, &cc).PacketStatusCount == 0 || rounds > transportWindow {
					t.Fatal("it never ends")
				}
			}
		}
	})
}

// BenchmarkTransportCC is one packet; every fifth makes a feedback.
func BenchmarkTransportCC(b *testing.B) {
	var cc TransportCC
	dst := make([]byte, 0, 1500)
	var seq uint16
	now := someTime
	b.ReportAllocs()
	for b.Loop() {
		seq++
		now += 20_000
		cc.Record(seq, now)
		if seq%5 == 0 {
			dst = cc.AppendFeedback(dst[:0], 1, 2)
		}
	}
}
