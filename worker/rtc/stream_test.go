package rtc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/pion/rtcp"

	"github.com/dspeak/sfu/worker/handshake"
	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/netio"
)

// report is a protected compound packet of the client.
func (p *peer) report(t *testing.T, packets ...rtcp.Packet) []byte {
	t.Helper()
	raw, err := rtcp.Marshal(packets)
	mustNil(t, err)
	protected, err := p.out.EncryptRTCP(nil, raw, nil)
	mustNil(t, err)
	return protected
}

// taken gives a copy of a packet to the loop and reports whether it was not discarded.
func (b *bench) taken(p *peer, packet []byte) bool {
	b.tb.Helper()
	before := p.count.discarded
	b.onDatagram(bytes.Clone(packet), &p.src, b.now)
	return p.count.discarded == before
}

func receiverReport(source, media uint32, lost uint8) *rtcp.ReceiverReport {
	return &rtcp.ReceiverReport{SSRC: source, Reports: []rtcp.ReceptionReport{{SSRC: media, FractionLost: lost, TotalLost: uint32(lost)}}}
}

// TestEveryConsumersSourceIsHeard: a client that reports on each consumer from a new SSRC,
// as Firefox does, is heard after any number of unmutes, and with any number of speakers.
func TestEveryConsumersSourceIsHeard(t *testing.T) {
	b := newBench(t)
	listener := b.connected(handshake.AEADAES128GCM)
	var speakers []*peer
	for range 120 {
		speakers = append(speakers, b.connected(handshake.AES128CMHMACSHA180))
	}
	var old [][]byte
	for round := range 4 {
		for i, s := range speakers {
			if round > 0 {
				b.destroyProducer(s.producers[0])
			}
			p := b.produce(s, uint32(1000*(round+1)+i))
			c := b.consume(listener, p)
			b.arrive(s, voice(p.stream.ssrc, 1))
			seq := uint16(c.entry().seq.last)
			source := uint32(1_000_000 + 1000*round + i)
			packet := listener.report(t, receiverReport(source, c.ssrc, 3),
				&rtcp.TransportLayerNack{SenderSSRC: source, MediaSSRC: c.ssrc, Nacks: []rtcp.NackPair{{PacketID: seq}}})
			if !b.taken(listener, packet) || c.report.lost != 3 || c.report.resent != 1 {
				t.Fatalf("round %d, speaker %d: reported %+v", round, i, c.report)
			}
			old = append(old, packet)
		}
	}
	for i, packet := range old {
		if b.taken(listener, packet) {
			t.Fatalf("packet %d was taken twice", i)
		}
	}
	if n, most := len(listener.srtp.streams), spareStreams+len(speakers); n > most {
		t.Errorf("%d sources kept, want at most %d", n, most)
	}
}

// TestSourcesAgainstAMap sends packets of random sources, many of them again, and compares
// what is taken with all that was sent.
func TestSourcesAgainstAMap(t *testing.T) {
	for seed := range uint64(20) {
		b := newBench(t)
		p := b.connected(handshake.AEADAES128GCM)
		rng := rand.New(rand.NewPCG(seed, 5))
		var sent [][]byte
		for range 3000 {
			b.readClock()
			if n := len(sent); n > 0 && rng.IntN(3) == 0 {
				if i := rng.IntN(n); b.taken(p, sent[i]) {
					t.Fatalf("seed %d: packet %d of %d was taken twice", seed, i, n)
				}
				continue
			}
			// Few sources talk all the time, many once or twice.
			source := 1 + rng.Uint32N(10)
			if rng.IntN(2) == 0 {
				source = 100 + rng.Uint32N(900)
			}
			packet := p.report(t, &rtcp.ReceiverReport{SSRC: source})
			if !b.taken(p, packet) {
				t.Fatalf("seed %d: a packet of source %d was refused", seed, source)
			}
			sent = append(sent, packet)
		}
		if n := len(p.srtp.streams); n > spareStreams {
			t.Fatalf("seed %d: %d sources kept", seed, n)
		}
	}
}

// TestRTCPSourcesAreBounded: an authentic client cannot fill memory with SSRCs, nor
// outshout those that it uses.
func TestRTCPSourcesAreBounded(t *testing.T) {
	b := newBench(t)
	p, speaker := b.connected(handshake.AEADAES128GCM), b.connected(handshake.AEADAES128GCM)
	c := b.consume(p, b.produce(speaker, 7))
	for i := range uint32(20_000) {
		if packet := p.report(t, &rtcp.ReceiverReport{SSRC: 1_000 + i*7919}); !b.taken(p, packet) {
			t.Fatalf("source %d was refused", i)
		}
		if i%500 == 0 {
			lost := uint8(1 + i/500)
			if !b.taken(p, p.report(t, receiverReport(9, c.ssrc, lost))) || c.report.fraction != lost {
				t.Fatalf("after %d sources: reported %+v, want %d lost", i, c.report, lost)
			}
		}
	}
	if n := len(p.srtp.streams); n > spareStreams+1 || b.ledger.Streams.Len() > n+1 {
		t.Errorf("%d sources, %d records of all transports", n, b.ledger.Streams.Len())
	}
	if n := len(p.srtp.forgotten); n > maxForgotten {
		t.Errorf("%d forgotten sources are remembered", n)
	}
}

// TestProducersThatCameAndWent: a client that unmutes with a new SSRC each time leaves no
// more behind than the bound, and an SSRC that comes back goes on where it was: its old
// packets stay refused, its numbers and their roll-overs go on.
func TestProducersThatCameAndWent(t *testing.T) {
	b := newBench(t)
	p := b.connected(handshake.AEADAES128GCM)
	const again = 5000
	speak := func(ssrc uint32, numbers ...uint16) (packets [][]byte) {
		for _, n := range numbers {
			raw, err := voice(ssrc, n).Marshal()
			mustNil(t, err)
			protected, err := p.out.EncryptRTP(nil, raw, nil)
			mustNil(t, err)
			if !b.taken(p, protected) {
				t.Fatalf("packet %d of %d was refused", n, ssrc)
			}
			packets = append(packets, protected)
		}
		return packets
	}
	pr := b.produce(p, again)
	old := speak(again, 65000, 65530, 3, 40)
	b.destroyProducer(pr)
	for i := range uint32(1000) {
		pr := b.produce(p, 10_000+i)
		speak(pr.stream.ssrc, 1, 2)
		b.destroyProducer(pr)
	}
	if n := len(p.srtp.streams); n > spareStreams || b.ledger.Streams.Len() != n {
		t.Fatalf("%d streams, %d records", n, b.ledger.Streams.Len())
	}
	if p.srtp.lookup(again) != nil {
		t.Fatal("the first stream was not forgotten")
	}
	for _, declared := range []bool{true, false} {
		t.Run(fmt.Sprint("ssrc declared: ", declared), func(t *testing.T) {
			params := producerParams(again, "again")
			if !declared {
				params.Encodings[0].SSRC = 0
			}
			pr, err := newProducer(p.transport, &ProduceParams{ID: "again", Kind: "audio", RtpParameters: params})
			mustNil(t, err)
			mustNil(t, b.recordProducer(p.transport, pr, ledger.Digest{}))
			p.producers = append(p.producers, pr)
			b.table.producers[pr.id] = pr
			for i, packet := range old {
				if b.taken(p, packet) {
					t.Fatalf("packet %d was taken twice", i)
				}
			}
			// Numbers, with a mid for a stream that is to be learnt.
			next := voice(again, uint16(41+len(old)))
			mustNil(t, next.SetExtension(extMid, []byte("again")))
			raw, err := next.Marshal()
			mustNil(t, err)
			protected, err := p.out.EncryptRTP(nil, raw, nil)
			mustNil(t, err)
			if !b.taken(p, protected) {
				t.Fatal("the stream does not go on")
			}
			if highest := pr.stream.rec.RTP.Highest(); highest>>16 != 1 {
				t.Fatalf("highest number %d, want one roll-over", highest)
			}
			old = append(old, protected)
			b.destroyProducer(pr)
			for i := range uint32(2 * spareStreams) { // forget it again
				b.destroyProducer(b.produce(p, 100_000+i))
			}
			for p.srtp.lookup(again) != nil {
				if !b.forgetStream(p.transport) {
					t.Fatal("the stream cannot be forgotten")
				}
			}
		})
	}
}

// TestForgedSourcesForgetNobody: only authentic packets make room for themselves.
func TestForgedSourcesForgetNobody(t *testing.T) {
	b := newBench(t)
	p := b.connected(handshake.AEADAES128GCM)
	packet := p.report(t, &rtcp.ReceiverReport{SSRC: 1})
	b.taken(p, packet)
	for i := range uint32(1000) {
		forged := bytes.Clone(packet)
		binary.BigEndian.PutUint32(forged[4:], 2+i)
		if b.taken(p, forged) {
			t.Fatal("a forged packet was taken")
		}
	}
	if len(p.srtp.streams) != 1 || len(p.srtp.forgotten) != 0 {
		t.Fatalf("%d sources, %d forgotten", len(p.srtp.streams), len(p.srtp.forgotten))
	}
}

// TestSourcesOverATakeover: a successor refuses what its predecessor took, and hears all
// sources on.
func TestSourcesOverATakeover(t *testing.T) {
	poller, err := netio.NewPoller()
	mustNil(t, err)
	t.Cleanup(func() { _ = poller.Close() })
	mem := make([]byte, proofMemory)
	state, err := ledger.Create(mem, 1)
	mustNil(t, err)
	b := newBenchOn(t, state, poller, Config{}.withDefaults())
	_, err = b.createRouter("r", nil, ledger.Digest{})
	mustNil(t, err)
	c := newCrowdOn(b, 4, firefoxCapabilities())
	c.finish(c.listener, handshake.AEADAES128GCM)
	const sources = spareStreams + 4
	var old [][]byte
	for i := range uint32(sources) {
		packet := c.listener.report(t, &rtcp.ReceiverReport{SSRC: 1 + i})
		if !c.taken(c.listener, packet) {
			t.Fatalf("source %d was refused", i)
		}
		old = append(old, packet)
	}
	c.succeed(t, bytes.Clone(mem))
	for i, packet := range old {
		if c.taken(c.listener, packet) {
			t.Fatalf("packet %d was taken twice", i)
		}
	}
	for i := range uint32(2 * sources) {
		if !c.taken(c.listener, c.listener.report(t, &rtcp.ReceiverReport{SSRC: 1 + i})) {
			t.Fatalf("source %d was refused", i)
		}
	}
}
