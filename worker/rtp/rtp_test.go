package rtp

import (
	"bytes"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/pion/rtcp"
	pion "github.com/pion/rtp"

	"github.com/dspeak/sfu/internal/errs"
)

// packet is built by pion: a browser's audio packet.
func packet(tb testing.TB, profile uint16, extensions map[uint8][]byte, padding byte) []byte {
	tb.Helper()
	p := pion.Packet{
		Header: pion.Header{
			Version: 2, Marker: true, PayloadType: 111, SequenceNumber: 65535, Timestamp: 4000000000, SSRC: 0xdeadbeef,
			CSRC: []uint32{7}, ExtensionProfile: profile, Extension: len(extensions) > 0,
		},
		Payload: []byte("opus frame"), PaddingSize: padding,
	}
	p.Padding = padding > 0
	for id, value := range extensions {
		if err := p.SetExtension(id, value); err != nil {
			tb.Fatal(err)
		}
	}
	b, err := p.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestParseReadsWhatPionWrites(t *testing.T) {
	for name, profile := range map[string]uint16{"one byte": profileOneByte, "two bytes": profileTwoByte} {
		t.Run(name, func(t *testing.T) {
			b := packet(t, profile, map[uint8][]byte{1: []byte("mid0"), 10: {0x85}}, 5)
			var h Header
			if err := Parse(b, &h); err != nil {
				t.Fatal(err)
			}
			if h.SSRC != 0xdeadbeef || h.SequenceNumber != 65535 || h.Timestamp != 4000000000 || h.PayloadType != 111 || !h.Marker {
				t.Fatalf("header %+v", h)
			}
			if string(h.Extension(1)) != "mid0" || !bytes.Equal(h.Extension(10), []byte{0x85}) || h.Extension(3) != nil {
				t.Fatalf("extensions %q, %v, %v", h.Extension(1), h.Extension(10), h.Extension(3))
			}
			payload, err := Payload(b, &h)
			if err != nil || string(payload) != "opus frame" {
				t.Fatalf("payload %q, %v", payload, err)
			}
		})
	}
}

func TestMalformedHeaders(t *testing.T) {
	good := packet(t, profileOneByte, map[uint8][]byte{1: []byte("m")}, 0)
	long := bytes.Clone(good)
	long[19] = 200 // words of extension
	padded := packet(t, 0, nil, 3)
	padded[len(padded)-1] = 255
	for name, b := range map[string][]byte{"empty": nil, "short": good[:11], "version": append([]byte{0x40}, good[1:]...), "extension": long, "csrc": {0x8f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}} {
		var h Header
		if err := Parse(b, &h); !errors.Is(err, errs.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	var h Header
	if err := Parse(padded, &h); err != nil {
		t.Fatal(err)
	}
	if _, err := Payload(padded, &h); !errors.Is(err, errs.ErrInvalid) {
		t.Errorf("padding beyond the payload: got %v", err)
	}
}

func TestClassify(t *testing.T) {
	for want, b := range map[Kind][]byte{
		KindSTUN: {0, 1}, KindDTLS: {22, 254}, KindRTP: {0x80, 111}, KindRTCP: {0x80, 200}, KindUnknown: {70, 0},
	} {
		if got := Classify(b); got != want {
			t.Errorf("%v is %d, want %d", b, got, want)
		}
	}
	if Classify([]byte{0x80}) != KindUnknown {
		t.Error("one byte is something")
	}
}

func TestAppendHeaderIsReadByPion(t *testing.T) {
	for name, f := range map[string]HeaderFields{
		"none":      {SSRC: 5, PayloadType: 100},
		"all":       {SSRC: 5, PayloadType: 100, Mid: "12", MidID: 1, AbsSendTimeID: 4, AudioLevelID: 10},
		"two bytes": {SSRC: 5, PayloadType: 100, Mid: "a-mid-longer-than-16-bytes", MidID: 1, AbsSendTimeID: 20, AudioLevelID: 10},
	} {
		t.Run(name, func(t *testing.T) {
			b, l := AppendHeader(nil, f)
			if l.AudioLevel > 0 {
				b[l.AudioLevel+l.AudioLevelSize-1] = 0x80 | 30
			}
			if l.AbsSendTime > 0 {
				copy(b[l.AbsSendTime:], []byte{1, 2, 3})
			}
			var h pion.Header
			n, err := h.Unmarshal(b)
			if err != nil || n != l.Size || h.SSRC != 5 || h.PayloadType != 100 {
				t.Fatalf("pion reads %+v, %d of %d bytes, %v", h, n, l.Size, err)
			}
			if f.MidID != 0 && (string(h.GetExtension(f.MidID)) != f.Mid || !bytes.Equal(h.GetExtension(f.AbsSendTimeID), []byte{1, 2, 3}) ||
				!bytes.Equal(h.GetExtension(f.AudioLevelID), []byte{0x80 | 30})) {
				t.Fatalf("extensions %v", h.Extensions)
			}
		})
	}
}

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
	if rep.TotalLost != 2 || rep.FractionLost != 2*256/20 || rep.HighestSequence != 1<<16|13 || rep.Jitter != 0 {
		t.Fatalf("report %+v", rep)
	}
	if second := r.Report(9); second.FractionLost != 0 || second.TotalLost != 2 {
		t.Fatalf("second report %+v", second)
	}
	r.Update(13, 0, 0) // a duplicate
	if r.Lost() != 1 {
		t.Fatalf("lost %d after a duplicate", r.Lost())
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

func TestReportsAreReadByPion(t *testing.T) {
	rep := ReceptionReport{SSRC: 2, FractionLost: 9, TotalLost: -3, HighestSequence: 70000, Jitter: 5, LastSenderReport: 77, Delay: 88}
	info := SenderInfo{SSRC: 1, NTP: NTP(1700000000123456789), Timestamp: 3, Packets: 4, Octets: 5}
	b := AppendSenderReport(nil, info, []ReceptionReport{rep})
	b = AppendReceiverReport(b, 8, []ReceptionReport{rep})
	b = AppendSourceDescription(b, 1, "someone@somewhere")
	b = AppendNack(b, 1, 2, []uint16{65534, 65535, 3, 40})
	b = AppendBye(b, 1, 2)
	packets, err := rtcp.Unmarshal(b)
	if err != nil || len(packets) != 5 {
		t.Fatalf("pion reads %v, %v", packets, err)
	}
	sr, ok := packets[0].(*rtcp.SenderReport)
	if !ok || sr.NTPTime != info.NTP || sr.RTPTime != 3 || sr.Reports[0].TotalLost != 0xfffffd {
		t.Fatalf("sender report %+v", sr)
	}
	nack, ok := packets[3].(*rtcp.TransportLayerNack)
	if !ok || len(nack.Nacks) != 2 {
		t.Fatalf("nack %+v", packets[3])
	}
	var got []uint16
	for _, pair := range nack.Nacks {
		got = append(got, pair.PacketList()...)
	}
	if len(got) != 4 || got[0] != 65534 || got[3] != 40 {
		t.Fatalf("asks for %v", got)
	}
	walkOwn(t, b, info, rep)
}

// walkOwn reads the compound back.
func walkOwn(t *testing.T, b []byte, info SenderInfo, rep ReceptionReport) {
	t.Helper()
	p, rest, err := NextRTCP(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := p.SenderInfo(); !ok || got != info || p.Reports() != 1 || p.Report(0) != rep {
		t.Fatalf("sender report %+v, %+v", got, p.Report(0))
	}
	count := 1
	for len(rest) > 0 {
		if p, rest, err = NextRTCP(rest); err != nil {
			t.Fatal(err)
		}
		count++
	}
	if count != 5 || p.Byes() != 2 || p.Bye(1) != 2 {
		t.Fatalf("%d packets, the last %+v", count, p)
	}
}

func TestRoundTrip(t *testing.T) {
	sent := NTP(1700000000_000000000)
	now := NTP(1700000000_150000000)
	rep := ReceptionReport{LastSenderReport: Middle32(sent), Delay: 1 << 16 / 10}
	if rtt, ok := RoundTrip(now, rep); !ok || (rtt-50*time.Millisecond).Abs() > time.Millisecond {
		t.Fatalf("round trip %s, %v", rtt, ok)
	}
	for name, bad := range map[string]ReceptionReport{"no report": {}, "from the future": {LastSenderReport: Middle32(now) + 1<<16}} {
		if _, ok := RoundTrip(now, bad); ok {
			t.Errorf("%s gives a round trip", name)
		}
	}
}

func TestAbsSendTimeIsPions(t *testing.T) {
	at := time.Unix(1700000000, 123456789)
	want, err := pion.NewAbsSendTimeExtension(at).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got := AbsSendTime(at.UnixNano())
	if !bytes.Equal([]byte{byte(got >> 16), byte(got >> 8), byte(got)}, want) {
		t.Fatalf("got %06x, want %x", got, want)
	}
}

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

func TestTransportFeedbackIsReadByPion(t *testing.T) {
	var cc TransportCC
	start := int64(10_000_000)
	arrivals := map[uint16]int64{65534: 0, 65535: 300, 1: 90_000, 2: 80_000, 5: 200_000} // 0, 3 and 4 are missing
	for _, seq := range []uint16{65534, 65535, 2, 1, 5} {
		cc.Record(seq, start+arrivals[seq])
	}
	b := cc.AppendFeedback(nil, 1, 2)
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		t.Fatal(err)
	}
	f, ok := packets[0].(*rtcp.TransportLayerCC)
	if !ok || f.BaseSequenceNumber != 65534 || f.PacketStatusCount != 8 || len(f.RecvDeltas) != len(arrivals) {
		t.Fatalf("feedback %+v", f)
	}
	at := int64(f.ReferenceTime) * referenceUnit
	for i, seq := range []uint16{65534, 65535, 1, 2, 5} {
		at += f.RecvDeltas[i].Delta
		if want := start + arrivals[seq]; at > want || want-at > 2*deltaUnit {
			t.Errorf("packet %d arrived at %d, want %d", seq, at, want)
		}
	}
	if cc.Pending() || len(cc.AppendFeedback(nil, 1, 2)) != 0 {
		t.Error("a second feedback without packets")
	}
}

func TestTransportFeedbackSurvivesJumps(t *testing.T) {
	var cc TransportCC
	now := int64(1_000_000)
	for i, seq := range []uint16{0, 200, 300, 40000, 40001, 39000} {
		cc.Record(seq, now+int64(i)*20_000_000) // long pauses
		for cc.Pending() {
			b := cc.AppendFeedback(nil, 1, 2)
			if _, err := rtcp.Unmarshal(b); err != nil {
				t.Fatalf("after %d: %v", seq, err)
			}
		}
	}
}

func TestNothingAllocates(t *testing.T) {
	b := packet(t, profileOneByte, map[uint8][]byte{1: []byte("m"), 10: {1}}, 0)
	var h Header
	var r Reception
	dst := make([]byte, 0, 1500)
	if n := testing.AllocsPerRun(100, func() {
		if Parse(b, &h) != nil || h.Extension(10) == nil {
			t.Fatal("not parsed")
		}
		r.Update(h.SequenceNumber, h.Timestamp, 0)
		dst = AppendReceiverReport(dst[:0], 1, nil)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func FuzzHeader(f *testing.F) {
	f.Add(packet(f, profileOneByte, map[uint8][]byte{1: []byte("m")}, 3))
	f.Add(packet(f, profileTwoByte, map[uint8][]byte{200: []byte("long enough value")}, 0))
	f.Fuzz(func(_ *testing.T, b []byte) {
		var h Header
		if Parse(b, &h) != nil {
			return
		}
		for id := range 256 {
			_ = h.Extension(uint8(id))
		}
		_, _ = Payload(b, &h)
	})
}

func FuzzRTCP(f *testing.F) {
	f.Add(AppendBye(AppendNack(AppendReceiverReport(nil, 1, make([]ReceptionReport, 2)), 1, 2, []uint16{4, 9}), 1))
	f.Add(AppendSourceDescription(AppendSenderReport(nil, SenderInfo{}, nil), 1, "x"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		for len(b) > 0 {
			p, rest, err := NextRTCP(b)
			if err != nil {
				return
			}
			for i := range p.Reports() {
				_ = p.Report(i)
			}
			for i := range p.Nacks() {
				_, _ = p.Nack(i)
			}
			for i := range p.Byes() {
				_ = p.Bye(i)
			}
			_, _ = p.SenderInfo()
			_, _ = p.SSRC(), p.MediaSSRC()
			b = rest
		}
	})
}

func BenchmarkParse(b *testing.B) {
	p := packet(b, profileOneByte, map[uint8][]byte{1: []byte("m"), 10: {1}}, 0)
	var h Header
	b.ReportAllocs()
	for b.Loop() {
		if Parse(p, &h) != nil || h.Extension(10) == nil {
			b.Fatal("not parsed")
		}
	}
}
