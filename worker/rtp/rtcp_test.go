package rtp

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/pion/rtcp"

	"github.com/dspeak/sfu/internal/errs"
)

func marshal(tb testing.TB, packets ...rtcp.Packet) []byte {
	tb.Helper()
	b, err := rtcp.Marshal(packets)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// chromiumCompound is what a browser sends about its microphone and one speaker.
func chromiumCompound(tb testing.TB) []byte {
	tb.Helper()
	return marshal(tb,
		&rtcp.SenderReport{
			SSRC: 0xc0ffee, NTPTime: 0xe8aabbccddeeff00, RTPTime: 48000, PacketCount: 50, OctetCount: 4000,
			Reports: []rtcp.ReceptionReport{{
				SSRC: 7, FractionLost: 12, TotalLost: 0xfffffe, LastSequenceNumber: 70000, Jitter: 33,
				LastSenderReport: 0x12345678, Delay: 65536,
			}},
		},
		&rtcp.SourceDescription{Chunks: []rtcp.SourceDescriptionChunk{{
			Source: 0xc0ffee, Items: []rtcp.SourceDescriptionItem{{Type: rtcp.SDESCNAME, Text: "Qx4iJvZ0x6l7"}},
		}}},
		&rtcp.ExtendedReport{SenderSSRC: 0xc0ffee, Reports: []rtcp.ReportBlock{&rtcp.ReceiverReferenceTimeReportBlock{NTPTimestamp: 5}}},
		&rtcp.TransportLayerNack{SenderSSRC: 0xc0ffee, MediaSSRC: 7, Nacks: []rtcp.NackPair{{PacketID: 65530, LostPackets: 0x8001}, {PacketID: 20}}},
		&rtcp.PictureLossIndication{SenderSSRC: 1, MediaSSRC: 2},
		&rtcp.Goodbye{Sources: []uint32{0xc0ffee, 8}, Reason: "replaced"},
	)
}

// walk cuts a compound into its packets.
func walk(tb testing.TB, b []byte) []RTCPPacket {
	tb.Helper()
	var all []RTCPPacket
	for len(b) > 0 {
		p, rest, err := NextRTCP(b)
		if err != nil {
			tb.Fatal(err)
		}
		all, b = append(all, p), rest
	}
	return all
}

func TestNextRTCPReadsWhatPionWrites(t *testing.T) {
	all := walk(t, chromiumCompound(t))
	types := make([]uint8, 0, len(all))
	for _, p := range all {
		types = append(types, p.Type)
	}
	if !slices.Equal(types, []uint8{TypeSenderReport, TypeSourceDescription, 207, TypeTransportFeedback, 206, TypeBye}) {
		t.Fatalf("types %v", types)
	}
	report, nack, bye := all[0], all[3], all[5]
	info, ok := report.SenderInfo()
	if want := (SenderInfo{SSRC: 0xc0ffee, NTP: 0xe8aabbccddeeff00, Timestamp: 48000, Packets: 50, Octets: 4000}); !ok || info != want {
		t.Errorf("sender information %+v", info)
	}
	want := ReceptionReport{
		SSRC: 7, FractionLost: 12, TotalLost: -2, HighestSequence: 70000, Jitter: 33, LastSenderReport: 0x12345678, Delay: 65536,
	}
	if report.Reports() != 1 || report.Report(0) != want {
		t.Errorf("report %+v", report.Report(0))
	}
	if nack.SSRC() != 0xc0ffee || nack.MediaSSRC() != 7 || nack.Nacks() != 2 {
		t.Errorf("nack %+v", nack)
	}
	if seq, following := nack.Nack(0); seq != 65530 || following != 0x8001 {
		t.Errorf("pair %d, %x", seq, following)
	}
	if bye.Byes() != 2 || bye.Bye(0) != 0xc0ffee || bye.Bye(1) != 8 {
		t.Errorf("bye %+v", bye)
	}
}

func TestAccessorsOfOtherPackets(t *testing.T) {
	for _, p := range walk(t, chromiumCompound(t)) {
		if _, ok := p.SenderInfo(); ok != (p.Type == TypeSenderReport) {
			t.Errorf("type %d has sender information", p.Type)
		}
		if (p.Reports() > 0) != (p.Type == TypeSenderReport) || (p.Byes() > 0) != (p.Type == TypeBye) ||
			(p.Nacks() > 0) != (p.Type == TypeTransportFeedback) || (p.MediaSSRC() > 0) != (p.Type == TypeTransportFeedback) {
			t.Errorf("type %d: %d reports, %d byes, %d nacks", p.Type, p.Reports(), p.Byes(), p.Nacks())
		}
	}
}

// A count field that promises more than there is promises nothing.
func TestCountsAreBounded(t *testing.T) {
	for name, tc := range map[string]struct {
		head byte
		kind byte
		body int
		want [4]int // reports, byes, nacks, 1 with sender information
	}{
		"sender report without sender": {0x9f, TypeSenderReport, 20, [4]int{}},
		"sender report, half a block":  {0x9f, TypeSenderReport, 24 + 20, [4]int{0, 0, 0, 1}},
		"receiver report, empty":       {0x9f, TypeReceiverReport, 0, [4]int{}},
		"receiver report, two of 31":   {0x9f, TypeReceiverReport, 4 + 48, [4]int{2}},
		"receiver report, one of two":  {0x81, TypeReceiverReport, 4 + 48, [4]int{1}},
		"bye, two of 31":               {0x9f, TypeBye, 8, [4]int{0, 2}},
		"nack without pairs":           {0x81, TypeTransportFeedback, 8, [4]int{}},
		"nack without a stream":        {0x81, TypeTransportFeedback, 4, [4]int{}},
		"nack, three pairs":            {0x81, TypeTransportFeedback, 20, [4]int{0, 0, 3}},
		"transport-wide feedback":      {0x8f, TypeTransportFeedback, 20, [4]int{}},
	} {
		t.Run(name, func(t *testing.T) {
			b := append([]byte{tc.head, tc.kind, 0, byte(tc.body / 4)}, make([]byte, tc.body)...)
			p := walk(t, b)[0]
			got := [4]int{p.Reports(), p.Byes(), p.Nacks(), 0}
			if _, ok := p.SenderInfo(); ok {
				got[3] = 1
			}
			if got != tc.want {
				t.Fatalf("got %v, want %v", got, tc.want)
			}
			_, _ = p.SSRC(), p.MediaSSRC()
		})
	}
}

func TestPaddedRTCP(t *testing.T) {
	b := AppendBye(nil, 5)
	b = append(b, 0, 0, 0, 4)
	b[0] |= 0x20
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)/4-1))
	all := walk(t, AppendBye(b, 6))
	if len(all) != 2 || all[0].Byes() != 1 || all[0].Bye(0) != 5 || len(all[0].Body) != 4 || all[1].Bye(0) != 6 {
		t.Fatalf("packets %+v", all)
	}
}

func TestMalformedRTCP(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":                   nil,
		"short":                   {0x80, 200, 0},
		"version":                 {0x40, 200, 0, 0},
		"longer than the packet":  {0x80, 200, 0, 1},
		"padding in no body":      {0xa0, 203, 0, 0},
		"padding of no length":    {0xa0, 203, 0, 1, 1, 2, 3, 0},
		"padding beyond the body": {0xa0, 203, 0, 1, 1, 2, 3, 5},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := NextRTCP(b); !errors.Is(err, errs.ErrInvalid) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// FuzzRTCP compares with pion: a compound that pion reads is read alike here.
func FuzzRTCP(f *testing.F) {
	f.Add(chromiumCompound(f))
	f.Add(AppendBye(AppendNack(AppendReceiverReport(nil, 1, make([]ReceptionReport, 2)), 1, 2, []uint16{4, 9}), 1))
	f.Add(AppendSourceDescription(AppendSenderReport(nil, SenderInfo{}, nil), 1, "x"))
	f.Add([]byte{0xaf, 205, 0, 6, 0, 0, 0, 1, 0, 0, 0, 2, 0, 9, 0, 1, 0, 0, 9, 0, 0x20, 1, 4, 0, 0, 0, 0, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), maxFuzz)]
		twins, twinErr := rtcp.Unmarshal(b)
		for i := 0; len(b) > 0; i++ {
			p, rest, err := NextRTCP(b)
			if err != nil {
				return
			}
			readAll(p)
			if twinErr == nil && b[0]&0x20 == 0 {
				compareRTCP(t, p, twins[i])
			}
			b = rest
		}
	})
}

func readAll(p RTCPPacket) {
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
}

func compareRTCP(t *testing.T, p RTCPPacket, twin rtcp.Packet) {
	t.Helper()
	var reports []rtcp.ReceptionReport
	switch twin := twin.(type) {
	case *rtcp.SenderReport:
		info, ok := p.SenderInfo()
		if want := (SenderInfo{twin.SSRC, twin.NTPTime, twin.RTPTime, twin.PacketCount, twin.OctetCount}); !ok || info != want {
			t.Fatalf("sender information %+v, want %+v", info, want)
		}
		reports = twin.Reports
	case *rtcp.ReceiverReport:
		reports = twin.Reports
	case *rtcp.Goodbye:
		for i, ssrc := range twin.Sources {
			if p.Byes() != len(twin.Sources) || p.Bye(i) != ssrc {
				t.Fatalf("bye %+v, want %v", p, twin.Sources)
			}
		}
	case *rtcp.TransportLayerNack:
		for i, pair := range twin.Nacks {
			if seq, following := p.Nack(i); seq != pair.PacketID || following != uint16(pair.LostPackets) {
				t.Fatalf("pair %d of %+v, want %+v", i, p, pair)
			}
		}
	}
	if len(reports) > 0 && p.Reports() != len(reports) {
		t.Fatalf("%d reports, want %d", p.Reports(), len(reports))
	}
	for i, want := range reports {
		got := p.Report(i)
		if got.SSRC != want.SSRC || uint32(got.TotalLost)&0xffffff != want.TotalLost || got.HighestSequence != want.LastSequenceNumber ||
			got.Jitter != want.Jitter || got.LastSenderReport != want.LastSenderReport || got.Delay != want.Delay {
			t.Fatalf("report %+v, want %+v", got, want)
		}
	}
}

func BenchmarkRTCPWalk(b *testing.B) {
	compound := chromiumCompound(b)
	b.Run("own", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for rest := compound; len(rest) > 0; {
				var p RTCPPacket
				var err error
				if p, rest, err = NextRTCP(rest); err != nil {
					b.Fatal(err)
				}
				readAll(p)
			}
		}
	})
	b.Run("pion", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := rtcp.Unmarshal(compound); err != nil {
				b.Fatal(err)
			}
		}
	})
}
