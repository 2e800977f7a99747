package rtc

import (
	"bytes"
	"slices"
	"testing"

	"github.com/dspeak/sfu/worker/handshake"
	"github.com/dspeak/sfu/worker/netio"
)

func TestPacketsOfOneDestinationLeaveTogether(t *testing.T) {
	b := newBench(t)
	b.sink.keep = true
	listener := b.connected(handshake.AEADAES128GCM)
	var speakers []*peer
	for i := range 4 {
		s := b.connected(handshake.AEADAES128GCM)
		b.consume(listener, b.produce(s, uint32(100+i)))
		speakers = append(speakers, s)
	}
	for _, s := range speakers {
		b.arrive(s, voice(uint32(100+s.index-1), 10))
	}
	b.flush()
	if len(b.sink.kept) != 1 || len(b.sink.kept[0].packets) != 4 {
		t.Fatalf("%d sends for 4 packets of one size", len(b.sink.kept))
	}
}

// TestPaddedPacketsShareASend: payloads of different sizes, padded under load, leave
// in one send and arrive as they were.
func TestPaddedPacketsShareASend(t *testing.T) {
	b := newBench(t)
	b.sink.keep = true
	b.out.padTo = padQuantum
	listener := b.connected(handshake.AEADAES128GCM)
	want := map[uint32][]byte{}
	for i := range 3 {
		s := b.connected(handshake.AEADAES128GCM)
		ssrc := uint32(100 + i)
		c := b.consume(listener, b.produce(s, ssrc))
		p := voice(ssrc, 1)
		p.Payload = bytes.Repeat([]byte{byte(i + 1)}, 70+i*11)
		want[c.ssrc] = p.Payload
		b.arrive(s, p)
	}
	b.flush()
	if len(b.sink.kept) != 1 {
		t.Fatalf("%d sends for 3 padded packets", len(b.sink.kept))
	}
	for _, p := range b.sentTo(listener) {
		if !bytes.Equal(p.Payload, want[p.SSRC]) {
			t.Fatalf("payload of %d changed", p.SSRC)
		}
	}
}

// TestLargerPacketsFirst: any two packets share a send, and a stream keeps its order.
func TestLargerPacketsFirst(t *testing.T) {
	ring := testRing(t, minSendRingBytes)
	packet := func(size int, ssrc byte) packetRef {
		b := ring.reserve(size)
		clear(b)
		b[11] = ssrc
		return ring.commit(size)
	}
	a, b, c, d := packet(100, 1), packet(120, 2), packet(100, 3), packet(120, 4)
	refs := []packetRef{a, b, c, d}
	sortBySize(ring, refs)
	if want := []packetRef{b, d, a, c}; !slices.Equal(refs, want) {
		t.Fatalf("order %v, want %v", refs, want)
	}
	if n := segmentRun(refs, netio.MaxPackets); n != 3 {
		t.Fatalf("%d packets share the first send, want 3", n)
	}
	probe, audio := packet(40, 5), packet(120, 5)
	refs = []packetRef{probe, audio}
	sortBySize(ring, refs)
	if want := []packetRef{probe, audio}; !slices.Equal(refs, want) {
		t.Fatalf("a stream's packets changed places: %v", refs)
	}
}
