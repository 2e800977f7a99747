package rtc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	pionrtp "github.com/pion/rtp"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/worker/handshake"
	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/netio"
	"github.com/dspeak/sfu/worker/ortc"
	"github.com/dspeak/sfu/worker/rtp"
)

// proof runs clients of a worker that is killed again and again: each life is a loop
// that goes on with a copy of its predecessor's ledger, taken at a random moment. It
// collects every protected packet that left. No index may appear twice with different
// bytes under one key, and after each kill whoever was heard before is heard again.
type proof struct {
	*bench // of the present life

	t      *testing.T
	rng    *rand.Rand
	mem    []byte
	poller *netio.Poller
	actors []*actor
	names  int
	mutate func(*ledger.Ledger) // what a broken takeover would forget; nil: nothing

	wire    map[wireKey][]byte
	users   map[wireKey]ident.ConsumerID // who used an SSRC
	highest map[wireKey]uint64           // by client and SSRC
	heard   map[ident.ConsumerID]int
	dead    []byte // the copy that the successor gets; nil: alive
	fault   error

	packets, reports, repeats, wraps int
}

// wireKey names an index of a key, or with index 0 an SSRC.
type wireKey struct {
	client int
	rtcp   bool
	ssrc   uint32
	index  uint64
}

// actor is a client with its stream.
type actor struct {
	*peer

	n        int
	id       ident.TransportID
	producer ident.ProducerID
	ssrc     uint32
	next     uint64 // extended sequence number
	sent     [][]byte
	held     [][]byte // to come late
}

const (
	proofClients = 4
	// proofMemory is room for a few clients: it is copied at every kill.
	proofMemory = 4 << 20
)

func newProof(t *testing.T, seed uint64, mutate func(*ledger.Ledger)) *proof {
	t.Helper()
	poller, err := netio.NewPoller()
	mustNil(t, err)
	t.Cleanup(func() { _ = poller.Close() })
	p := &proof{
		t: t, rng: rand.New(rand.NewPCG(seed, 77)), mem: make([]byte, proofMemory), poller: poller, mutate: mutate,
		wire: map[wireKey][]byte{}, users: map[wireKey]ident.ConsumerID{}, highest: map[wireKey]uint64{},
		heard: map[ident.ConsumerID]int{},
	}
	state, err := ledger.Create(p.mem, 1)
	mustNil(t, err)
	p.begin(state, time.Now())
	_, err = p.createRouter("r", nil, ledger.Digest{})
	mustNil(t, err)
	for i := range proofClients {
		profile := handshake.AEADAES128GCM
		if i%2 == 1 {
			profile = handshake.AES128CMHMACSHA180
		}
		a := &actor{peer: p.connected(profile), n: i, ssrc: uint32(1000 + i)}
		a.id = a.transport.id
		// Some begin right before a wrap of the numbers, some low, where the numbers of
		// incoming and outgoing packets cover each other.
		if a.next = uint64(p.rng.UintN(200)); mutate == nil && i%2 == 0 {
			a.next = 1<<16 - 1 - uint64(p.rng.UintN(500))
		}
		p.actors = append(p.actors, a)
		p.makeProducer(a)
		p.speak(a) // a stream must be known before its numbers wrap (RFC 3711 section 3.3.1)
	}
	for range 2 * proofClients {
		p.makeConsumer()
	}
	return p
}

// begin starts a life.
func (p *proof) begin(state *ledger.Ledger, now time.Time) {
	p.bench = newBenchOn(p.t, state, p.poller, Config{SendRingBytes: minSendRingBytes}.withDefaults())
	p.freeze()
	p.frozen = now
	p.readClock()
	p.sink.watch = p.onWire
	for _, a := range p.actors {
		a.transport, a.src.port = p.table.transports[a.id], p.port
		if a.transport == nil {
			p.fail("transport %s is lost", a.id)
			a.transport = &transport{}
		}
	}
}

func (p *proof) fail(format string, args ...any) {
	if p.fault == nil {
		p.fault = fmt.Errorf(format, args...)
	}
}

// kill ends the present life with the ledger as it is now: what is sent from here on
// never leaves.
func (p *proof) kill() {
	if p.dead == nil {
		p.dead = bytes.Clone(p.mem)
	}
}

// succeed begins the next life with the copy.
func (p *proof) succeed() {
	p.mem, p.dead = p.dead, nil
	state, dropped, err := ledger.Open(p.mem, 1)
	if err != nil || dropped.Total() > 0 {
		p.t.Fatalf("ledger after a kill: dropped %v, %v", dropped, err)
	}
	if p.mutate != nil {
		p.mutate(state)
	}
	p.begin(state, p.frozen.Add(time.Duration(p.rng.IntN(20_000))*time.Microsecond))
	for _, a := range p.actors { // the network repeats what the dead one had
		for range 5 {
			p.repeat(a)
		}
	}
	p.mustBeHeard()
}

// mustBeHeard sends a packet on each stream, which each consumer must get.
func (p *proof) mustBeHeard() {
	for _, a := range p.actors {
		p.flush()
		pr := p.table.producers[a.producer]
		if pr == nil || pr.paused {
			continue
		}
		want := map[ident.ConsumerID]int{}
		for i := range pr.fan {
			if c := pr.fan[i].consumer; !c.paused {
				want[c.id] = p.heard[c.id] + 1
			}
		}
		p.speak(a)
		p.flush()
		for id, n := range want {
			if p.dead == nil && p.heard[id] != n {
				p.fail("consumer %s hears nothing after a kill", id)
			}
		}
	}
}

// onWire looks at what leaves. A kill may happen before or behind it.
func (p *proof) onWire(ss []netio.Send) {
	if p.rng.IntN(200) == 0 {
		p.kill()
	}
	if p.dead != nil {
		return
	}
	for i := range ss {
		a := p.actorAt(ss[i])
		for _, b := range ss[i].Packets {
			p.packets++
			switch rtp.Classify(b) {
			case rtp.KindRTP:
				p.onWireRTP(a, b)
			case rtp.KindRTCP:
				p.onWireRTCP(a, b)
			default:
			}
		}
	}
	if p.rng.IntN(200) == 0 {
		p.kill()
	}
}

func (p *proof) actorAt(s netio.Send) *actor {
	for _, a := range p.actors {
		if a.src.addr == s.Addr {
			return a
		}
	}
	p.t.Fatalf("sent to %s", s.Addr)
	return nil
}

func (p *proof) onWireRTP(a *actor, b []byte) {
	ssrc := binary.BigEndian.Uint32(b[8:])
	stream := wireKey{client: a.n, ssrc: ssrc}
	index := rtp.ExtendSequence(p.highest[stream], binary.BigEndian.Uint16(b[2:]))
	a.in.SetROC(ssrc, uint32(index>>16))
	if _, err := a.in.DecryptRTP(nil, b, nil); err != nil {
		p.fail("client %d cannot open packet %d of %d: %w", a.n, index, ssrc, err)
		return
	}
	if was := p.highest[stream]; index>>16 > was>>16 {
		p.wraps++
	}
	p.highest[stream] = max(p.highest[stream], index)
	c := p.table.sent[sentStream{a.transport, ssrc}]
	if c == nil {
		return // closed since
	}
	if user := p.users[stream]; user != "" && user != c.id {
		p.fail("ssrc %d of %s is used again by %s", ssrc, user, c.id)
	}
	p.users[stream] = c.id
	p.heard[c.id]++
	p.collect(wireKey{client: a.n, ssrc: ssrc, index: index}, b)
}

func (p *proof) onWireRTCP(a *actor, b []byte) {
	if _, err := a.in.DecryptRTCP(nil, b, nil); err != nil {
		p.fail("client %d cannot open rtcp: %w", a.n, err)
		return
	}
	index, _ := a.srtp.in.RTCPIndex(b)
	p.collect(wireKey{client: a.n, rtcp: true, ssrc: binary.BigEndian.Uint32(b[4:]), index: uint64(index)}, b)
}

// collect is the rule that may never break.
func (p *proof) collect(k wireKey, b []byte) {
	was, again := p.wire[k]
	switch {
	case again && !bytes.Equal(was, b):
		p.fail("index used twice: %+v", k)
	case again:
		p.repeats++
	case k.rtcp:
		p.reports++
	}
	p.wire[k] = bytes.Clone(b)
}

func (p *proof) name(kind string) string { p.names++; return fmt.Sprint(kind, p.names) }

func (p *proof) makeProducer(a *actor) {
	id := ident.ProducerID(p.name("p"))
	if _, err := p.Loop.produce(ProduceParams{
		Transport: a.id, ID: id, Kind: "audio", RtpParameters: producerParams(a.ssrc, "m"),
	}); err != nil {
		p.fail("produce: %w", err)
		return
	}
	a.producer = id
}

func (p *proof) makeConsumer() {
	from, to := p.actors[p.rng.IntN(len(p.actors))], p.actors[p.rng.IntN(len(p.actors))]
	id := ident.ConsumerID(p.name("c"))
	if _, err := p.Loop.consume(ConsumeParams{
		Transport: to.id, ID: id, Producer: from.producer, RtpCapabilities: ortc.RouterRtpCapabilities(), Paused: p.rng.IntN(4) == 0,
	}); err != nil {
		return // the pair exists already
	}
	if c := p.table.consumers[id]; p.mutate == nil && p.rng.IntN(2) == 0 {
		// As if it had sent for long: its numbers wrap soon.
		c.entry().seq = newSeqMap(uint16(65_535 - p.rng.UintN(100)))
		c.rec.Mapping.Start(c.entry().seq.last)
		p.highest[wireKey{client: to.n, ssrc: c.ssrc}] = c.entry().seq.last
	}
}

// someConsumer is a random one, nil when there is none.
func (p *proof) someConsumer() *consumer {
	a := p.actors[p.rng.IntN(len(p.actors))]
	if len(a.consumers) == 0 {
		return nil
	}
	return a.consumers[p.rng.IntN(len(a.consumers))]
}

// frame protects the next packet of a client.
func (p *proof) frame(a *actor) []byte {
	pkt := voice(a.ssrc, uint16(a.next))
	pkt.Payload = append(pkt.Payload, make([]byte, p.rng.IntN(80))...)
	raw, err := pkt.Marshal()
	mustNil(p.t, err)
	a.out.SetROC(a.ssrc, uint32(a.next>>16))
	b, err := a.out.EncryptRTP(nil, raw, &pionrtp.Header{})
	mustNil(p.t, err)
	a.next++
	a.sent = append(a.sent, b)
	if len(a.sent) > 200 {
		a.sent = a.sent[1:]
	}
	return b
}

func (p *proof) deliver(a *actor, b []byte) { p.onDatagram(bytes.Clone(b), &a.src, p.now) }

// speak sends one packet in order.
func (p *proof) speak(a *actor) { p.deliver(a, p.frame(a)) }

// repeat sends an old packet again.
func (p *proof) repeat(a *actor) {
	if len(a.sent) > 0 {
		recent := min(len(a.sent), 1+p.rng.IntN(200))
		p.deliver(a, a.sent[len(a.sent)-recent])
	}
}

// step does one thing.
func (p *proof) step() {
	p.pass(time.Duration(p.rng.IntN(3000)) * time.Microsecond)
	a := p.actors[p.rng.IntN(len(p.actors))]
	switch n := p.rng.IntN(100); {
	case n < 50:
		p.speak(a)
	case n < 55: // lost on the way
		for range 1 + p.rng.IntN(4) {
			p.frame(a)
		}
	case n < 58: // a long pause of the network
		for range p.rng.IntN(500) {
			p.frame(a)
		}
		a.held = nil
	case n < 62:
		a.held = append(a.held, p.frame(a))
	case n < 67:
		for _, b := range a.held {
			p.deliver(a, b)
		}
		a.held = nil
	case n < 75:
		p.repeat(a)
	case n < 85:
		p.flush()
	case n < 90:
		p.report(a)
	default:
		p.call(a)
	}
}

// report lets RTCP flow: the worker's reports, and a client's request for packets.
func (p *proof) report(a *actor) {
	p.sendReports(a.transport)
	if len(a.consumers) == 0 {
		return
	}
	c := a.consumers[p.rng.IntN(len(a.consumers))]
	raw := []byte{0x81, 205, 0, 3, 0, 0, 0, byte(a.n + 1), 0, 0, 0, 0, 0, 0, 0xff, 0xff}
	binary.BigEndian.PutUint32(raw[8:], c.ssrc)
	binary.BigEndian.PutUint16(raw[12:], uint16(c.entry().seq.last)-uint16(p.rng.IntN(20)))
	b, err := a.out.EncryptRTCP(nil, raw, nil)
	mustNil(p.t, err)
	p.deliver(a, b)
}

// call makes one of the control calls.
func (p *proof) call(a *actor) {
	switch p.rng.IntN(9) {
	case 0, 1, 2:
		p.makeConsumer()
	case 3:
		if c := p.someConsumer(); c != nil {
			_ = p.closeConsumerCall(c.id)
		}
	case 4, 5:
		if c := p.someConsumer(); c != nil {
			_ = p.setConsumerPaused(c.id, !c.paused)
		}
	case 6:
		if pr := p.table.producers[a.producer]; pr != nil {
			_ = p.setProducerPaused(pr.id, !pr.paused)
		}
	case 8: // the client had no keys
		a.intro.wanted = true
		p.repeatIntroduction(a.transport)
	case 7: // the client begins anew with its SSRC
		if p.rng.IntN(3) == 0 {
			if err := p.closeProducerCall(a.producer); err != nil && !errors.Is(err, errs.ErrNotFound) {
				p.fail("close: %w", err)
			}
			p.makeProducer(a)
		}
	}
}

// run kills so many times, or until a fault is found.
func (p *proof) run(kills int) {
	for killed := 0; killed < kills && p.fault == nil; killed++ {
		for range 1 + p.rng.IntN(60) {
			p.step()
			if p.dead != nil {
				break
			}
		}
		p.kill()
		p.succeed()
	}
}
