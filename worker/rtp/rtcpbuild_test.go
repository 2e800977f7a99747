package rtp

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/pion/rtcp"
)

func TestBuiltPacketsArePions(t *testing.T) {
	own := ReceptionReport{SSRC: 2, FractionLost: 9, TotalLost: -3, HighestSequence: 70000, Jitter: 5, LastSenderReport: 77, Delay: 88}
	twin := rtcp.ReceptionReport{
		SSRC: 2, FractionLost: 9, TotalLost: 0xfffffd, LastSequenceNumber: 70000, Jitter: 5, LastSenderReport: 77, Delay: 88,
	}
	info := SenderInfo{SSRC: 1, NTP: NTP(1700000000123456789), Timestamp: 3, Packets: 4, Octets: 5}
	name := func(text string) *rtcp.SourceDescription {
		return &rtcp.SourceDescription{Chunks: []rtcp.SourceDescriptionChunk{{
			Source: 1, Items: []rtcp.SourceDescriptionItem{{Type: rtcp.SDESCNAME, Text: text}},
		}}}
	}
	for title, tc := range map[string]struct {
		own  []byte
		twin rtcp.Packet
	}{
		"sender report": {
			AppendSenderReport(nil, info, []ReceptionReport{own, own}),
			&rtcp.SenderReport{
				SSRC: 1, NTPTime: info.NTP, RTPTime: 3, PacketCount: 4, OctetCount: 5,
				Reports: []rtcp.ReceptionReport{twin, twin},
			},
		},
		"receiver report": {
			AppendReceiverReport(nil, 8, []ReceptionReport{own}),
			&rtcp.ReceiverReport{SSRC: 8, Reports: []rtcp.ReceptionReport{twin}},
		},
		"empty receiver report":      {AppendReceiverReport(nil, 8, nil), &rtcp.ReceiverReport{SSRC: 8}},
		"name of 1 byte":             {AppendSourceDescription(nil, 1, "a"), name("a")},
		"name of 2 bytes":            {AppendSourceDescription(nil, 1, "ab"), name("ab")},
		"name of 3 bytes":            {AppendSourceDescription(nil, 1, "abc"), name("abc")},
		"name of 17 bytes":           {AppendSourceDescription(nil, 1, "someone@somewhere"), name("someone@somewhere")},
		"name that is cut":           {AppendSourceDescription(nil, 1, strings.Repeat("n", 300)), name(strings.Repeat("n", 255))},
		"bye":                        {AppendBye(nil, 1, 2), &rtcp.Goodbye{Sources: []uint32{1, 2}}},
		"nack":                       {AppendNack(nil, 1, 2, []uint16{9, 10, 25}), &rtcp.TransportLayerNack{SenderSSRC: 1, MediaSSRC: 2, Nacks: []rtcp.NackPair{{PacketID: 9, LostPackets: 1 | 1<<15}}}},
		"nack that needs two pairs":  {AppendNack(nil, 1, 2, []uint16{9, 26}), &rtcp.TransportLayerNack{SenderSSRC: 1, MediaSSRC: 2, Nacks: []rtcp.NackPair{{PacketID: 9}, {PacketID: 26}}}},
		"nack across the wrap":       {AppendNack(nil, 1, 2, []uint16{65534, 65535, 3}), &rtcp.TransportLayerNack{SenderSSRC: 1, MediaSSRC: 2, Nacks: []rtcp.NackPair{{PacketID: 65534, LostPackets: 1 | 1<<4}}}},
		"bye of more than it holds":  {AppendBye(nil, make([]uint32, 40)...), &rtcp.Goodbye{Sources: make([]uint32, 31)}},
		"reports than it could hold": {AppendReceiverReport(nil, 8, slices.Repeat([]ReceptionReport{own}, 40)), &rtcp.ReceiverReport{SSRC: 8, Reports: slices.Repeat([]rtcp.ReceptionReport{twin}, 31)}},
	} {
		t.Run(title, func(t *testing.T) {
			if want := marshal(t, tc.twin); !bytes.Equal(tc.own, want) {
				t.Fatalf("got  %x\nwant %x", tc.own, want)
			}
		})
	}
}

func TestBuildersAppend(t *testing.T) {
	b := AppendSenderReport(nil, SenderInfo{SSRC: 1}, nil)
	b = AppendSourceDescription(b, 1, "name")
	b = AppendNack(b, 1, 2, nil) // nothing is missing: nothing is said
	b = AppendNack(b, 1, 2, []uint16{1})
	b = AppendBye(b, 1)
	packets, err := rtcp.Unmarshal(b)
	if err != nil || len(packets) != 4 {
		t.Fatalf("pion reads %v, %v", packets, err)
	}
}

// FuzzNackPairs: the pairs name exactly the numbers that were given.
func FuzzNackPairs(f *testing.F) {
	f.Add(uint16(65530), []byte{1, 1, 15, 16, 17, 200})
	f.Fuzz(func(t *testing.T, first uint16, steps []byte) {
		want := []uint16{first}
		for _, step := range steps[:min(len(steps), 100)] {
			want = append(want, want[len(want)-1]+uint16(max(step, 1)))
		}
		p, rest, err := NextRTCP(AppendNack(nil, 1, 2, want))
		if err != nil || len(rest) != 0 {
			t.Fatal(err)
		}
		var got []uint16
		for i := range p.Nacks() {
			seq, following := p.Nack(i)
			got = append(got, seq)
			for bit := range uint16(16) {
				if following>>bit&1 == 1 {
					got = append(got, seq+bit+1)
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func BenchmarkReports(b *testing.B) {
	reports := make([]ReceptionReport, 1)
	dst := make([]byte, 0, 1500)
	b.Run("own", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			dst = AppendSenderReport(dst[:0], SenderInfo{SSRC: 1}, reports)
			dst = AppendSourceDescription(dst, 1, "someone@somewhere")
		}
	})
	b.Run("pion", func(b *testing.B) {
		packets := []rtcp.Packet{
			&rtcp.SenderReport{SSRC: 1, Reports: make([]rtcp.ReceptionReport, 1)}, rtcp.NewCNAMESourceDescription(1, "someone@somewhere"),
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := rtcp.Marshal(packets); err != nil {
				b.Fatal(err)
			}
		}
	})
}
