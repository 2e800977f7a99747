package rtc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	pionrtp "github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/worker/handshake"
	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/netio"
	"github.com/dspeak/sfu/worker/ortc"
	"github.com/dspeak/sfu/worker/stun"
)

// sinkUDP takes everything and keeps the last sends when told to.
type sinkUDP struct {
	keep    bool
	full    bool // writes end with ErrWouldBlock
	room    int  // of a socket that is nearly full: sends that the next writes take; 0: any number
	sends   int
	packets int
	kept    []keptSend
	watch   func([]netio.Send) // sees all that is taken; nil: nobody does
}

type keptSend struct {
	to      netip.AddrPort
	from    netio.Local
	packets [][]byte
}

func (*sinkUDP) FD() int                                { return -1 }
func (*sinkUDP) ReadBatch([]netio.Message) (int, error) { return 0, nil }
func (*sinkUDP) MaxSegments() int                       { return netio.MaxPackets }
func (*sinkUDP) Close() error                           { return nil }
func (*sinkUDP) LocalAddr() netip.AddrPort              { return netip.MustParseAddrPort("0.0.0.0:1") }

func (s *sinkUDP) WriteBatch(ss []netio.Send) (int, error) {
	if s.full {
		return 0, netio.ErrWouldBlock
	}
	if s.room > 0 && len(ss) >= s.room {
		ss, s.room, s.full = ss[:s.room], 0, true
	}
	if s.watch != nil {
		s.watch(ss)
	}
	for i := range ss {
		s.sends++
		s.packets += len(ss[i].Packets)
		if s.keep {
			k := keptSend{to: ss[i].Addr, from: ss[i].Local}
			for _, p := range ss[i].Packets {
				k.packets = append(k.packets, bytes.Clone(p))
			}
			s.kept = append(s.kept, k)
		}
	}
	if s.full {
		return len(ss), netio.ErrWouldBlock
	}
	return len(ss), nil
}

// bench is a loop that does not run: the test calls its inner functions.
type bench struct {
	*Loop
	tb      testing.TB
	sink    *sinkUDP
	port    *udpPort
	router  *router
	clients int
	frozen  time.Time // of freeze
}

// freeze stops the clock: from now on only pass moves it.
func (b *bench) freeze() {
	b.frozen = time.Now()
	b.clock = func() time.Time { return b.frozen }
	b.readClock()
}

// pass moves the frozen clock on.
func (b *bench) pass(d time.Duration) {
	b.frozen = b.frozen.Add(d)
	b.readClock()
}

func newBench(tb testing.TB) *bench {
	tb.Helper()
	b := newBenchAlone(tb, ledger.Private())
	if _, err := b.createRouter("r", nil, ledger.Digest{}); err != nil {
		tb.Fatal(err)
	}
	b.router = b.table.routers["r"]
	return b
}

// newBenchAlone is newBenchOn with a poller of its own.
func newBenchAlone(tb testing.TB, state *ledger.Ledger) *bench {
	tb.Helper()
	poller, err := netio.NewPoller()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = poller.Close() })
	return newBenchOn(tb, state, poller, Config{}.withDefaults())
}

// newBenchOn is a bench that goes on with what the ledger holds.
func newBenchOn(tb testing.TB, state *ledger.Ledger, poller *netio.Poller, cfg Config) *bench {
	tb.Helper()
	l, sink, port := newBenchLoop(tb, poller, cfg)
	l.ledger = state
	l.readClock()
	l.resume()
	return &bench{Loop: l, tb: tb, sink: sink, port: port, router: l.table.routers["r"]}
}

// newBenchLoop is a loop without a ledger yet.
func newBenchLoop(tb testing.TB, poller *netio.Poller, cfg Config) (*Loop, *sinkUDP, *udpPort) {
	tb.Helper()
	sink := &sinkUDP{}
	port := &udpPort{sock: sink}
	l := &Loop{
		cfg: cfg, log: discardLog(),
		mail: newMailbox(func() {}), events: make(chan Event, eventQueue), clock: time.Now,
		table: newObjectTable(), peers: newTCPPeers(), mac: stun.NewMAC(), poller: poller, cname: "bench", udp: []*udpPort{port},
	}
	l.out.ring = testRing(tb, l.cfg.SendRingBytes)
	l.base = clockBase(time.Now())
	l.cfg.Announced = []netip.AddrPort{sink.LocalAddr()}
	return l, sink, port
}

// peer is a client of a bench.
type peer struct {
	*transport
	src     source
	in, out *srtp.Context // the client's
}

// connected makes a transport that has finished ICE and DTLS.
func (b *bench) connected(profile handshake.Profile) *peer {
	b.tb.Helper()
	p := b.checked()
	b.finish(p, profile)
	return p
}

// checked makes a transport that has finished ICE.
func (b *bench) checked() *peer {
	b.tb.Helper()
	b.clients++
	id := ident.TransportID(fmt.Sprint("t", b.clients))
	if _, err := b.createTransport(CreateTransportParams{Router: "r", ID: id}); err != nil {
		b.tb.Fatal(err)
	}
	t := b.table.transports[id]
	p := &peer{transport: t, src: source{
		port: b.port, addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(b.clients >> 8), byte(b.clients)}), 4000),
	}}
	b.onValidCheck(t, &stun.Request{UseCandidate: true}, &p.src)
	return p
}

// finish gives a transport and its client their keys.
func (b *bench) finish(p *peer, profile handshake.Profile) {
	b.tb.Helper()
	keyLen, saltLen, srtpProfile := 16, 12, srtp.ProtectionProfileAeadAes128Gcm
	if profile == handshake.AES128CMHMACSHA180 {
		saltLen, srtpProfile = 14, srtp.ProtectionProfileAes128CmHmacSha1_80
	}
	key := func(n int, salt byte) []byte { return bytes.Repeat([]byte{byte(b.clients), salt}, n)[:n] }
	res := &handshake.Result{
		Profile: profile, LocalKey: key(keyLen, 1), LocalSalt: key(saltLen, 2), RemoteKey: key(keyLen, 3), RemoteSalt: key(saltLen, 4),
	}
	if err := b.finishDTLS(p.transport, res); err != nil {
		b.tb.Fatal(err)
	}
	var err error
	if p.in, err = srtp.CreateContext(res.LocalKey, res.LocalSalt, srtpProfile); err != nil {
		b.tb.Fatal(err)
	}
	if p.out, err = srtp.CreateContext(res.RemoteKey, res.RemoteSalt, srtpProfile); err != nil {
		b.tb.Fatal(err)
	}
}

func (b *bench) produce(p *peer, ssrc uint32) *producer {
	b.tb.Helper()
	id := ident.ProducerID(fmt.Sprint("p", ssrc))
	if _, err := b.Loop.produce(ProduceParams{
		Transport: p.id, ID: id, Kind: "audio", RtpParameters: producerParams(ssrc, fmt.Sprint("m", ssrc)),
	}); err != nil {
		b.tb.Fatal(err)
	}
	return b.table.producers[id]
}

func (b *bench) consume(p *peer, from *producer) *consumer {
	b.tb.Helper()
	return b.consumeWith(p, from, ortc.RouterRtpCapabilities())
}

func (b *bench) consumeWith(p *peer, from *producer, caps ortc.RtpCapabilities) *consumer {
	b.tb.Helper()
	id := ident.ConsumerID(fmt.Sprint(p.id, "-", from.id))
	if _, err := b.Loop.consume(ConsumeParams{
		Transport: p.id, ID: id, Producer: from.id, RtpCapabilities: caps,
	}); err != nil {
		b.tb.Fatal(err)
	}
	return b.table.consumers[id]
}

// mid is what the client of a consumer was told.
func (b *bench) mid(c *consumer) string {
	b.tb.Helper()
	res, err := b.consumeResult(c)
	if err != nil {
		b.tb.Fatal(err)
	}
	return res.RtpParameters.Mid
}

// arrive gives a protected packet of the client to the loop.
func (b *bench) arrive(p *peer, pkt *pionrtp.Packet) {
	b.tb.Helper()
	b.readClock()
	b.arriveAt(p, pkt, b.now)
}

// arriveAt gives the loop a protected packet that reached the kernel at that instant.
func (b *bench) arriveAt(p *peer, pkt *pionrtp.Packet, at instant) {
	b.tb.Helper()
	raw, err := pkt.Marshal()
	if err != nil {
		b.tb.Fatal(err)
	}
	protected, err := p.out.EncryptRTP(nil, raw, nil)
	if err != nil {
		b.tb.Fatal(err)
	}
	b.onDatagram(protected, &p.src, at)
}

// out flushes and returns the plain RTP packets sent to the client, in order.
func (b *bench) sentTo(p *peer) []*pionrtp.Packet {
	b.tb.Helper()
	b.flush()
	var list []*pionrtp.Packet
	rest := b.sink.kept[:0]
	for _, k := range b.sink.kept {
		if k.to != p.src.addr {
			rest = append(rest, k)
			continue
		}
		for _, raw := range k.packets {
			if raw[1] >= 192 && raw[1] < 224 {
				continue
			}
			plain, err := p.in.DecryptRTP(nil, raw, nil)
			if err != nil {
				b.tb.Fatalf("unprotect: %v", err)
			}
			pkt := &pionrtp.Packet{}
			if err := pkt.Unmarshal(plain); err != nil {
				b.tb.Fatal(err)
			}
			list = append(list, pkt)
		}
	}
	b.sink.kept = rest
	return list
}

func TestForwardRewritesTheHeader(t *testing.T) {
	b := newBench(t)
	b.sink.keep = true
	speaker, listener := b.connected(handshake.AEADAES128GCM), b.connected(handshake.AES128CMHMACSHA180)
	c := b.consume(listener, b.produce(speaker, 7))
	in := voice(7, 500)
	in.Marker = true
	b.arrive(speaker, in)
	got := b.sentTo(listener)
	if len(got) != 1 {
		t.Fatalf("%d packets sent", len(got))
	}
	p := got[0]
	if p.SSRC != c.ssrc || p.PayloadType != 100 || !p.Marker || p.Timestamp != in.Timestamp || !bytes.Equal(p.Payload, in.Payload) {
		t.Fatalf("forwarded %v", p)
	}
	if mid := p.GetExtension(1); string(mid) != b.mid(c) {
		t.Fatalf("mid %q, want %q", mid, b.mid(c))
	}
	if level := p.GetExtension(10); len(level) != 1 || level[0] != 0x80|30 {
		t.Fatalf("audio level %v", level)
	}
	abs := p.GetExtension(4)
	if len(abs) != 3 {
		t.Fatalf("abs-send-time %v", abs)
	}
	seconds := float64(uint32(abs[0])<<16|uint32(abs[1])<<8|uint32(abs[2])) / (1 << 18)
	if want := float64(time.Now().Unix() % 64); seconds < want-2 && want-seconds < 60 {
		t.Fatalf("abs-send-time %.2f s, want about %.0f", seconds, want)
	}
	if p.GetExtension(5) != nil || p.GetExtension(extTWCC) != nil {
		t.Fatal("a transport-wide sequence number was forwarded")
	}
}

func TestForwardWithoutAudioLevel(t *testing.T) {
	b := newBench(t)
	b.sink.keep = true
	speaker, listener := b.connected(handshake.AEADAES128GCM), b.connected(handshake.AEADAES128GCM)
	c := b.consume(listener, b.produce(speaker, 7))
	in := voice(7, 500)
	in.Extension, in.Extensions = false, nil
	b.arrive(speaker, in)
	p := b.sentTo(listener)[0]
	if p.GetExtension(10) != nil {
		t.Fatal("a level was made up")
	}
	if mid := p.GetExtension(1); string(mid) != b.mid(c) {
		t.Fatalf("mid %q behind the padding, want %q", mid, b.mid(c))
	}
}

func TestForwardTwoByteExtensionsPaddingAndCSRC(t *testing.T) {
	b := newBench(t)
	b.sink.keep = true
	speaker, listener := b.connected(handshake.AEADAES128GCM), b.connected(handshake.AEADAES128GCM)
	b.consume(listener, b.produce(speaker, 7))
	in := voice(7, 1)
	in.ExtensionProfile = pionrtp.ExtensionProfileTwoByte
	in.CSRC = []uint32{1, 2, 3}
	in.Padding = true
	in.Header.PaddingSize = 20
	b.arrive(speaker, in)
	p := b.sentTo(listener)[0]
	if p.Padding || len(p.CSRC) != 0 || !bytes.Equal(p.Payload, in.Payload) {
		t.Fatalf("forwarded %v", p)
	}
	if level := p.GetExtension(10); len(level) != 1 || level[0] != 0x80|30 {
		t.Fatalf("audio level %v", level)
	}
	only := voice(7, 2)
	only.Payload = nil
	only.Padding = true
	only.Header.PaddingSize = 100
	b.arrive(speaker, only)
	// It keeps its number: a receiver would take the gap for a loss.
	got := b.sentTo(listener)
	if len(got) != 1 || got[0].SequenceNumber != p.SequenceNumber+1 || len(got[0].Payload) != 0 || !got[0].Padding {
		t.Fatalf("padding alone became %v", got)
	}
}

func TestForwardDiscards(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(p *pionrtp.Packet)
	}{
		{"unknown SSRC", func(p *pionrtp.Packet) { p.SSRC = 8 }},
		{"other payload type", func(p *pionrtp.Packet) { p.PayloadType = 96 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			b.sink.keep = true
			speaker, listener := b.connected(handshake.AEADAES128GCM), b.connected(handshake.AEADAES128GCM)
			b.consume(listener, b.produce(speaker, 7))
			p := voice(7, 1)
			tc.change(p)
			b.arrive(speaker, p)
			if got := b.sentTo(listener); len(got) != 0 || speaker.count.discarded != 1 {
				t.Fatalf("forwarded %v, discarded %d", got, speaker.count.discarded)
			}
		})
	}
}

func TestReplayedAndForgedPacketsAreDropped(t *testing.T) {
	b := newBench(t)
	b.sink.keep = true
	speaker, listener := b.connected(handshake.AEADAES128GCM), b.connected(handshake.AEADAES128GCM)
	b.consume(listener, b.produce(speaker, 7))
	raw, _ := voice(7, 100).Marshal()
	protected, _ := speaker.out.EncryptRTP(nil, raw, nil)
	for range 3 {
		b.onDatagram(bytes.Clone(protected), &speaker.src, b.now)
	}
	for _, seq := range []uint16{101, 40000, 99} { // must not move any counter
		forged := bytes.Clone(protected)
		binary.BigEndian.PutUint16(forged[2:], seq)
		b.onDatagram(forged, &speaker.src, b.now)
	}
	b.arrive(speaker, voice(7, 101))
	got := b.sentTo(listener)
	if len(got) != 2 || got[1].SequenceNumber != got[0].SequenceNumber+1 {
		t.Fatalf("forwarded %v", got)
	}
	if speaker.count.discarded != 5 {
		t.Fatalf("discarded %d, want 5", speaker.count.discarded)
	}
}

// TestSequenceNumbersAcrossWrapPauseAndResume follows a consumer over several
// rollovers of the incoming and of the outgoing numbers.
func TestSequenceNumbersAcrossWrapPauseAndResume(t *testing.T) {
	b := newBench(t)
	b.sink.keep = true
	speaker, listener := b.connected(handshake.AEADAES128GCM), b.connected(handshake.AES128CMHMACSHA180)
	pr := b.produce(speaker, 7)
	c := b.consume(listener, pr)
	next := uint16(0)
	started := false
	in := uint16(32000)
	for i := range 200_000 {
		in++
		switch i % 40_000 {
		case 10_000:
			mustNil(t, b.setConsumerPaused(c.id, true))
		case 13_000:
			mustNil(t, b.setConsumerPaused(c.id, false))
		case 20_000:
			mustNil(t, b.setProducerPaused(pr.id, true))
		case 22_000:
			mustNil(t, b.setProducerPaused(pr.id, false))
		}
		b.arrive(speaker, voice(7, in))
		for _, p := range b.sentTo(listener) {
			if started && p.SequenceNumber != next {
				t.Fatalf("packet %d: number %d, want %d", i, p.SequenceNumber, next)
			}
			if want := binary.BigEndian.Uint16(p.Payload[4:]); want != in {
				t.Fatalf("payload of %d arrived as %d", want, in)
			}
			started = true
			next = p.SequenceNumber + 1
		}
	}
	if c.entry().seq.last < 2<<16 {
		t.Fatalf("only %d outgoing numbers", c.entry().seq.last)
	}
}

func mustNil(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestForwardDoesNotAllocate is the packet path's contract.
func TestForwardDoesNotAllocate(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	for _, profile := range []handshake.Profile{handshake.AEADAES128GCM, handshake.AES128CMHMACSHA180} {
		t.Run(fmt.Sprintf("%#04x", uint16(profile)), func(t *testing.T) {
			b := newBench(t)
			speaker := b.connected(profile)
			pr := b.produce(speaker, 7)
			for range 10 {
				b.consume(b.connected(profile), pr)
			}
			const runs = 2000
			queue := make([][]byte, 0, runs+200)
			for i := range cap(queue) {
				p := voice(7, uint16(i))
				p.Payload = append(p.Payload, make([]byte, 120)...)
				mustNil(t, p.SetExtension(extTWCC, []byte{byte(i >> 8), byte(i)}))
				raw, err := p.Marshal()
				mustNil(t, err)
				protected, err := speaker.out.EncryptRTP(nil, raw, nil)
				mustNil(t, err)
				queue = append(queue, protected)
			}
			next := func() {
				b.readClock()
				b.onDatagram(queue[0], &speaker.src, b.now)
				queue = queue[1:]
				b.flush()
			}
			for range 100 {
				next() // slices find their size
			}
			if n := testing.AllocsPerRun(runs, next); n != 0 {
				t.Fatalf("%.2f allocations a packet and ten copies", n)
			}
			if b.sink.packets < 10*runs {
				t.Fatalf("only %d packets sent", b.sink.packets)
			}
		})
	}
}
