package rtc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/rtcp"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/ledgerfile"
	"github.com/dspeak/sfu/worker/handshake"
	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/netio"
	"github.com/dspeak/sfu/worker/ortc"
	"github.com/dspeak/sfu/worker/rtp"
)

// TestNoIndexIsUsedTwice: over thousands of kills at random packets, no SRTP or SRTCP
// index leaves twice under one key with different bytes, and clients can read all that
// leaves. A successor that forgets one counter makes it fail.
func TestNoIndexIsUsedTwice(t *testing.T) {
	const steps, kills = 60_000, 2_000
	p := newProof(t, 1, func(*ledger.Ledger) {})
	p.play(steps)
	if p.fault != "" {
		t.Fatal(p.fault)
	}
	if p.kills < kills || p.wraps == 0 || p.rtcp == 0 || p.repeats == 0 {
		t.Fatalf("%d kills, %d roll-overs, %d RTCP packets, %d identical repetitions: too few to prove anything", p.kills, p.wraps, p.rtcp, p.repeats)
	}
	t.Logf("%d kills, %d indexes, %d roll-overs, %d identical repetitions", p.kills, len(p.seen), p.wraps, p.repeats)
}

func TestForgetfulSuccessorIsFound(t *testing.T) {
	for name, forget := range map[string]func(*ledger.Ledger){
		"the offsets": func(l *ledger.Ledger) {
			for rec := range l.Consumers.All() {
				rec.Mapping.End(0)
			}
		},
		"the highest number, with its roll-over": func(l *ledger.Ledger) {
			for rec := range l.Streams.All() {
				rec.RTP = ledger.Window{}
			}
		},
		"which numbers came": func(l *ledger.Ledger) {
			for rec := range l.Streams.All() {
				highest := rec.RTP.Highest()
				rec.RTP = ledger.Window{}
				rec.RTP.Mark(highest)
			}
		},
		"the SRTCP indexes": func(l *ledger.Ledger) {
			for rec := range l.Transports.All() {
				rec.RTCPReserved.Store(0)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProof(t, 2, forget)
			p.play(60_000)
			if p.fault == "" {
				t.Fatalf("not found in %d kills", p.kills)
			}
			t.Logf("found after %d kills: %s", p.kills, p.fault)
		})
	}
}

// proof plays two speakers and three listeners on loops that follow each other.
type proof struct {
	*bench
	t         *testing.T
	random    *rand.Rand
	mem       []byte
	poller    *netio.Poller
	forget    func(*ledger.Ledger) // done to the ledger at each takeover
	speakers  []*proofSpeaker
	listeners []*peer
	peers     map[netip.AddrPort]*peer
	seen      map[usedIndex]uint64 // hash of the bytes
	highest   map[usedIndex]uint64 // by key and SSRC
	seed      maphash.Seed
	consumers int

	kills, wraps, rtcp, repeats int
	fault                       string
}

type proofSpeaker struct {
	*peer
	producer string
	next     uint16
	sent     [][]byte // protected packets, the latest last
}

// usedIndex is an index of a key: a transport has one, each way.
type usedIndex struct {
	key   netip.AddrPort
	ssrc  uint32
	rtcp  bool
	index uint64
}

func newProof(t *testing.T, seed uint64, forget func(*ledger.Ledger)) *proof {
	t.Helper()
	file, err := ledgerfile.Create(ledgerfile.Size)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	p := &proof{
		t: t, forget: forget, random: rand.New(rand.NewPCG(seed, seed)), seed: maphash.MakeSeed(),
		peers: map[netip.AddrPort]*peer{}, seen: map[usedIndex]uint64{}, highest: map[usedIndex]uint64{},
	}
	if p.mem, err = ledgerfile.Map(file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ledgerfile.Unmap(p.mem) })
	if p.poller, err = netio.NewPoller(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.poller.Close() })
	state, err := ledger.Create(p.mem, 1)
	if err != nil {
		t.Fatal(err)
	}
	p.start(state)
	if _, err := p.createRouter("r", nil, ledger.Digest{}); err != nil {
		t.Fatal(err)
	}
	p.router = p.table.routers["r"]
	for i := range 5 {
		c := p.connected([]handshake.Profile{handshake.AEADAES128GCM, handshake.AES128CMHMACSHA180}[i%2])
		p.peers[c.src.addr] = c
		if i >= 2 {
			p.listeners = append(p.listeners, c)
			continue
		}
		pr := p.produce(c, uint32(100+i))
		p.speakers = append(p.speakers, &proofSpeaker{peer: c, producer: string(pr.id), next: uint16(65_000 + 300*i)})
	}
	return p
}

// start begins with a loop on the ledger.
func (p *proof) start(state *ledger.Ledger) {
	cfg := Config{SendRingBytes: minSendRingBytes}.withDefaults()
	clients := 0
	frozen := time.Now()
	if p.bench != nil {
		clients, frozen = p.clients, p.frozen
	}
	p.bench = newBenchOn(p.t, state, p.poller, cfg)
	p.clients, p.frozen, p.sink.keep = clients, frozen, true
	p.clock = func() time.Time { return p.frozen }
	p.readClock()
}

// kill abandons the loop as it is, what waits with it, and goes on with another.
func (p *proof) kill() {
	p.kills++
	state, dropped, err := ledger.Open(p.mem, 1)
	if err != nil || dropped.Total() != 0 {
		p.t.Fatalf("open: %v, dropped %v", err, dropped)
	}
	p.forget(state)
	p.start(state)
	for _, c := range p.peers {
		if c.transport = p.table.transports[c.id]; c.transport == nil {
			p.t.Fatal("a transport is gone")
		}
		c.src.port = p.port
	}
}

// play does random steps until something is wrong.
func (p *proof) play(steps int) {
	for range steps {
		if p.fault != "" {
			return
		}
		p.step()
		if p.random.IntN(3) > 0 { // else it waits, and a kill loses it
			p.flush()
		}
		p.collect()
		if p.random.IntN(25) == 0 {
			p.kill()
		}
	}
}

func (p *proof) step() {
	p.pass(time.Duration(p.random.IntN(20)) * time.Millisecond)
	s := p.speakers[p.random.IntN(len(p.speakers))]
	switch n := p.random.IntN(100); {
	case n < 70:
		p.arriveRaw(s.peer, s.protect(p))
	case n < 74: // lost, sometimes many
		for range 1 + p.random.IntN(400) {
			s.protect(p)
		}
	case n < 84: // again, or late
		if len(s.sent) > 0 {
			p.arriveRaw(s.peer, s.sent[p.random.IntN(len(s.sent))])
		}
	case n < 88:
		p.reports()
	case n < 92:
		p.askAgainFor()
	case n < 95:
		p.pauseOrResume(s)
	default:
		p.consumeAnother(s)
	}
}

// protect makes the speaker's next packet.
func (s *proofSpeaker) protect(p *proof) []byte {
	pkt := voice(100, s.next)
	pkt.SSRC = p.table.producers[p.producerID(s)].stream.ssrc
	pkt.Payload = binary.BigEndian.AppendUint64(nil, p.random.Uint64())
	s.next++
	raw, err := pkt.Marshal()
	if err != nil {
		p.t.Fatal(err)
	}
	b, err := s.out.EncryptRTP(nil, raw, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	s.sent = append(s.sent, b)
	s.sent = s.sent[max(0, len(s.sent)-40):]
	return b
}

func (p *proof) producerID(s *proofSpeaker) ident.ProducerID { return ident.ProducerID(s.producer) }

func (p *proof) arriveRaw(from *peer, protected []byte) {
	p.onDatagram(bytes.Clone(protected), &from.src, p.now)
}

// reports lets RTCP flow both ways.
func (p *proof) reports() {
	for _, c := range p.peers {
		c.rtcp.next = p.now
		p.sweepRTCP(c.transport)
	}
}

// askAgainFor asks for packets that a listener has had.
func (p *proof) askAgainFor() {
	for _, c := range p.listeners {
		for _, consumer := range c.consumers {
			last := uint16(consumer.entry().seq.last)
			nack := &rtcp.TransportLayerNack{SenderSSRC: 1, MediaSSRC: consumer.ssrc, Nacks: []rtcp.NackPair{
				{PacketID: last - uint16(p.random.IntN(20)), LostPackets: rtcp.PacketBitmap(p.random.Uint32())},
			}}
			raw, err := nack.Marshal()
			if err != nil {
				p.t.Fatal(err)
			}
			b, err := c.out.EncryptRTCP(nil, raw, nil)
			if err != nil {
				p.t.Fatal(err)
			}
			p.arriveRaw(c, b)
		}
	}
}

func (p *proof) pauseOrResume(s *proofSpeaker) {
	c := p.listeners[p.random.IntN(len(p.listeners))]
	var err error
	if len(c.consumers) > 0 && p.random.IntN(2) == 0 {
		consumer := c.consumers[p.random.IntN(len(c.consumers))]
		err = p.setConsumerPaused(consumer.id, !consumer.paused)
	} else {
		err = p.setProducerPaused(p.producerID(s), !p.table.producers[p.producerID(s)].paused)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// consumeAnother makes a consumer, or seldom closes one and makes it anew: most live
// until their numbers roll over.
func (p *proof) consumeAnother(s *proofSpeaker) {
	c := p.listeners[p.random.IntN(len(p.listeners))]
	for _, consumer := range c.consumers {
		if consumer.producer.id == p.producerID(s) {
			if p.random.IntN(5000) > 0 {
				return
			}
			if err := p.closeConsumerCall(consumer.id); err != nil {
				p.t.Fatal(err)
			}
			break
		}
	}
	p.consumers++
	if _, err := p.Loop.consume(ConsumeParams{
		Transport: c.id, ID: ident.ConsumerID(fmt.Sprint("c", p.consumers)), Producer: p.producerID(s), RtpCapabilities: ortc.RouterRtpCapabilities(),
	}); err != nil {
		p.t.Fatal(err)
	}
}

// collect takes what left and looks at each index.
func (p *proof) collect() {
	for _, send := range p.sink.kept {
		c := p.peers[send.to]
		for _, b := range send.packets {
			if len(b) > 12 && b[1] >= 192 && b[1] < 224 {
				p.rtcp++
				index, _ := c.srtp.rtcpIndexOf(b)
				p.book(usedIndex{key: send.to, ssrc: binary.BigEndian.Uint32(b[4:]), rtcp: true, index: uint64(index)}, b)
				continue
			}
			at := usedIndex{key: send.to, ssrc: binary.BigEndian.Uint32(b[8:])}
			seq := binary.BigEndian.Uint16(b[2:])
			highest, known := p.highest[at]
			index := uint64(seq)
			if known {
				index = rtp.ExtendSequence(highest, seq)
			}
			if index>>16 > highest>>16 {
				p.wraps++
			}
			p.highest[at] = max(highest, index)
			used := at
			used.index = index
			p.book(used, b)
			if _, err := c.in.DecryptRTP(nil, b, nil); err != nil && p.fault == "" {
				p.fault = fmt.Sprintf("a client cannot read index %d of SSRC %d: %v", index, at.ssrc, err)
			}
		}
	}
	p.sink.kept = p.sink.kept[:0]
}

func (p *proof) book(used usedIndex, b []byte) {
	hash := maphash.Bytes(p.seed, b)
	switch before, known := p.seen[used]; {
	case !known:
		p.seen[used] = hash
	case before == hash:
		p.repeats++
	case p.fault == "":
		p.fault = fmt.Sprintf("index %d of SSRC %d (RTCP %v) left twice", used.index, used.ssrc, used.rtcp)
	}
}
