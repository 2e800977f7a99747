package rtc

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"reflect"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/ledgerfile"
	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/netio"
	"github.com/dspeak/sfu/worker/rtp"
)

// lives is a slot whose loops die one after another, as processes killed with
// SIGKILL do: at some read or write the loop's goroutine ends, and nothing that would
// follow happens.
type lives struct {
	t    *testing.T
	udp  *net.UDPConn
	tcp  *net.TCPListener
	mem  []byte
	now  *rig
	sock *mortalUDP
	died chan struct{}
}

// mortalUDP ends the goroutine that uses it when its time has come.
type mortalUDP struct {
	netio.UDP

	left atomic.Int64 // calls; below 0: immortal
}

func (m *mortalUDP) age() {
	if m.left.Add(-1) == 0 {
		runtime.Goexit()
	}
}

func (m *mortalUDP) ReadBatch(ms []netio.Message) (int, error) {
	n, err := m.UDP.ReadBatch(ms)
	m.age() // what was read is lost
	return n, err
}

func (m *mortalUDP) WriteBatch(ss []netio.Send) (int, error) {
	m.age()
	n, err := m.UDP.WriteBatch(ss)
	m.age()
	return n, err
}

func newLives(t *testing.T) *lives {
	t.Helper()
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	mustNil(t, err)
	tcp, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	mustNil(t, err)
	s := &lives{t: t, udp: udp, tcp: tcp, mem: make([]byte, 8<<20)}
	_, err = ledger.Create(s.mem, 1)
	mustNil(t, err)
	t.Cleanup(func() { _ = udp.Close(); _ = tcp.Close() })
	return s
}

// begin starts the next life.
func (s *lives) begin(clients ...*client) {
	s.t.Helper()
	file := func(f *os.File, err error) *os.File { mustNil(s.t, err); return f }
	udp, tcp := file(s.udp.File()), file(s.tcp.File())
	defer func() { _ = udp.Close(); _ = tcp.Close() }()
	sock, err := netio.NewUDP(int(udp.Fd()), netio.UDPOptions{})
	mustNil(s.t, err)
	listener, err := netio.NewTCPListener(int(tcp.Fd()), netio.TCPOptions{})
	mustNil(s.t, err)
	state, dropped, err := ledger.Open(s.mem, 1)
	if err != nil || dropped.Total() > 0 {
		s.t.Fatalf("ledger: dropped %v, %v", dropped, err)
	}
	s.sock = &mortalUDP{UDP: sock}
	l, err := New(Config{
		Announced: []netip.AddrPort{sock.LocalAddr()}, Certificate: testCertificate(), Log: discardLog(), Ledger: state,
	}, Sockets{UDP: []netio.UDP{s.sock}, TCP: []*netio.TCPListener{listener}})
	mustNil(s.t, err)
	s.died = make(chan struct{})
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	running, stop := context.WithCancel(context.Background())
	go func(died chan struct{}) {
		defer close(died)
		_ = l.Run(running)
	}(s.died)
	s.now = &rig{Loop: l, t: s.t, ctx: ctx, clock: &testClock{}}
	died := s.died
	s.t.Cleanup(func() {
		cancel()
		stop()
		<-died
		select {
		case <-l.mail.dead: // it ended in order
		default:
			s.bury(l)
		}
	})
	for _, c := range clients {
		c.rig = s.now
	}
}

// bury gives back what the system would take from a killed process.
func (s *lives) bury(l *Loop) {
	l.mail.close()
	l.pool.Close()
	l.alerts.close()
	for _, p := range l.peers.all {
		_ = p.conn.Close()
	}
	_ = l.listeners[0].Close()
	_ = l.udp[0].sock.Close()
	_ = l.poller.Close()
}

// end waits for the present life's death and buries it.
func (s *lives) end() {
	s.t.Helper()
	select {
	case <-s.died:
	case <-time.After(patience):
		s.t.Fatal("it lives on")
	}
	s.bury(s.now.Loop)
}

// TestRealClientsLiveThroughKills: clients with real ICE, DTLS and SRTP, which notice
// nothing but lost packets.
func TestRealClientsLiveThroughKills(t *testing.T) {
	for seed := range uint64(2) {
		rng := rand.New(rand.NewPCG(seed, 5))
		s := newLives(t)
		s.begin()
		router := s.now.router()
		a, b := s.now.newClient(router), s.now.newClient(router)
		a.connect(dialUDP(t, a.addr("udp", true)), "client")
		b.connect(dialUDP(t, b.addr("udp", true)), "server")
		pa, pb := s.now.produce(a, 11, "0"), s.now.produce(b, 12, "")
		_, toB := s.now.consume(b, pa)
		_, toA := s.now.consume(a, pb)
		before, err := s.now.Dump(s.now.ctx, "")
		mustNil(t, err)
		seq := uint16(65300) // wraps on the way
		wire := map[uint64][]byte{}
		highest := uint64(0)
		collect := func(raw []byte) {
			index := rtp.ExtendSequence(highest, uint16(raw[2])<<8|uint16(raw[3]))
			highest = max(highest, index)
			if was, ok := wire[index]; ok && !bytes.Equal(was, raw) {
				t.Fatalf("seed %d: index %d used twice", seed, index)
			}
			wire[index] = bytes.Clone(raw)
			if p := b.open(raw); p.SSRC != toB.Encodings[0].SSRC {
				t.Fatalf("heard ssrc %d", p.SSRC)
			}
		}
		for range 25 {
			s.sock.left.Store(1 + rng.Int64N(60))
			for alive := true; alive; {
				seq++
				a.speak(11, seq)
				b.speak(12, seq)
				select {
				case raw := <-b.rtp:
					collect(raw)
				case <-s.died:
					alive = false
				case <-time.After(5 * time.Millisecond):
				}
			}
			s.end()
			for len(b.rtp) > 0 {
				collect(<-b.rtp)
			}
			s.begin(a, b)
			if r := s.now.Resumed(); r != (Resumed{Routers: 1, Transports: 2, Producers: 2, Consumers: 2}) {
				t.Fatalf("resumed %+v", r)
			}
			drain(a.rtp)
			seq++
			a.speak(11, seq)
			b.speak(12, seq)
			select {
			case raw := <-b.rtp:
				collect(raw)
			case <-time.After(patience):
				t.Fatalf("seed %d: b hears nothing", seed)
			}
			if p := a.hear(); p.SSRC != toA.Encodings[0].SSRC {
				t.Fatalf("a heard ssrc %d", p.SSRC)
			}
			drain(b.rtcp)
			a.check(a.active, useCandidate)
		}
		after, err := s.now.Dump(s.now.ctx, "")
		mustNil(t, err)
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("seed %d: before %+v\nafter %+v", seed, before, after)
		}
		mustNil(t, a.conn.Close()) // the DTLS state is still there to know the alert by
		e := s.now.waitEvent("closed", func(e Event) bool { return e.Kind == EventTransportClosed })
		if e.Transport != a.transport || e.Reason != ReasonDtlsClosed {
			t.Fatalf("event %+v", e)
		}
	}
}

func drain[T any](ch chan T) {
	for len(ch) > 0 {
		<-ch
	}
}

// TestHalfDoneSurvivesWhereItCan: what a transport is at when the worker dies.
func TestHalfDoneSurvivesWhereItCan(t *testing.T) {
	s := newLives(t)
	s.begin()
	router := s.now.router()
	fresh := s.now.newClient(router)   // nothing received
	checked := s.now.newClient(router) // ICE done, not yet connected
	checked.check(checked.addLink(dialUDP(t, checked.addr("udp", true))), useCandidate)
	waiting := s.now.newClient(router) // connected, but the client has not begun
	waiting.check(waiting.addLink(dialUDP(t, waiting.addr("udp", true))), useCandidate)
	params := DtlsParameters{Role: "client"}
	for _, f := range clientPrints(t) {
		params.Fingerprints = append(params.Fingerprints, DtlsFingerprint{Algorithm: f.Algorithm, Value: f.Value})
	}
	_, err := s.now.ConnectTransport(s.now.ctx, waiting.transport, params)
	mustNil(t, err)
	midway := s.now.newClient(router) // we are the DTLS client and have sent our hello
	midway.check(midway.addLink(dialUDP(t, midway.addr("udp", true))), useCandidate)
	server := params
	server.Role = "server"
	_, err = s.now.ConnectTransport(s.now.ctx, midway.transport, server)
	mustNil(t, err)
	select {
	case <-midway.dtls:
	case <-time.After(patience):
		t.Fatal("no hello")
	}
	tcp := s.now.newClient(router)
	tcp.connect(dialTCP(t, s.now.listeners[0].LocalAddr()), "client")
	pTCP := s.now.produce(tcp, 21, "0")

	s.sock.left.Store(1)
	checked.check2(t) // wakes it up
	s.end()
	s.begin(fresh, checked, waiting, midway, tcp)
	if r := s.now.Resumed(); r.Transports != 4 || r.Dropped != 1 {
		t.Fatalf("resumed %+v", r)
	}
	e := s.now.waitEvent("closed", func(e Event) bool { return e.Kind == EventTransportClosed })
	if e.Transport != midway.transport || e.Reason != ReasonDtlsFailed {
		t.Fatalf("event %+v", e)
	}
	if d := fresh.dump(); d.IceState != IceNew || d.Tuple != nil {
		t.Fatalf("fresh: %+v", d)
	}
	if d := checked.dump(); d.IceState != IceConnected || d.Tuple == nil || d.DtlsState != DtlsNew {
		t.Fatalf("checked: %+v", d)
	}
	if d := tcp.dump(); d.IceState != IceDisconnected || d.Tuple != nil || d.DtlsState != DtlsConnected {
		t.Fatalf("tcp: %+v", d)
	}
	fresh.connect(dialUDP(t, fresh.addr("udp", true)), "client")
	checked.handshake("client")
	if role, err := s.now.ConnectTransport(s.now.ctx, waiting.transport, params); err != nil || role != "server" {
		t.Fatalf("the same call again: %s, %v", role, err)
	}
	mustNil(t, waiting.dial("client"))
	// The client of a broken TCP connection dials again and goes on with its keys.
	tcp.check(tcp.addLink(dialTCP(t, s.now.listeners[0].LocalAddr())), useCandidate)
	s.now.consume(checked, pTCP)
	tcp.speak(21, 7)
	checked.hear()
}

// check2 sends one check and waits for nothing.
func (c *client) check2(t *testing.T) {
	t.Helper()
	c.send([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
}

func TestSkippedRoutersAreWiped(t *testing.T) {
	mem := make([]byte, proofMemory)
	state, err := ledger.Create(mem, 1)
	mustNil(t, err)
	b := newBenchAlone(t, state)
	for _, id := range []ident.RouterID{"r", "poison"} {
		_, err := b.createRouter(id, []byte("app data of "+id), ledger.Digest{})
		mustNil(t, err)
	}
	_, err = b.createTransport(CreateTransportParams{Router: "poison", ID: "t", AppData: []byte("app data of t")})
	mustNil(t, err)
	state, _, err = ledger.Open(mem, 1)
	mustNil(t, err)
	l := &Loop{
		cfg: Config{SkipRouters: []uint64{ledgerfile.Mark("poison")}}.withDefaults(), log: discardLog(), ledger: state,
		table: newObjectTable(), events: make(chan Event, 1),
	}
	l.resume()
	if l.Resumed() != (Resumed{Routers: 1}) || state.Transports.Len() != 0 {
		t.Fatalf("resumed %+v, %d transports", l.Resumed(), state.Transports.Len())
	}
	if bytes.Contains(mem, []byte("poison")) || bytes.Contains(mem, []byte("app data of t")) || !bytes.Contains(mem, []byte("app data of r")) {
		t.Fatal("not wiped")
	}
}

// TestNothingIsLeftOfAClosedRouter: keys above all.
func TestNothingIsLeftOfAClosedRouter(t *testing.T) {
	s := newLives(t)
	s.begin()
	clean := bytes.Clone(s.mem[8192:])
	router := s.now.router()
	a, b := s.now.newClient(router), s.now.newClient(router)
	a.connect(dialUDP(t, a.addr("udp", true)), "client")
	b.connect(dialUDP(t, b.addr("udp", true)), "server")
	s.now.consume(b, s.now.produce(a, 11, "0"))
	a.speak(11, 1)
	b.hear()
	var keys [][]byte
	s.now.onLoop(func() {
		for _, tr := range s.now.table.transports {
			keys = append(keys, bytes.Clone(tr.rec.LocalKey[:]), bytes.Clone(tr.rec.RemoteKey[:]), []byte(tr.ice.credentials.password))
		}
	})
	s.now.onLoop(func() {
		for _, key := range keys {
			if !bytes.Contains(s.mem, key) {
				t.Error("a key is not in the ledger")
			}
		}
	})
	mustNil(t, s.now.CloseRouter(s.now.ctx, router))
	s.now.onLoop(func() {
		if !bytes.Equal(s.mem[8192:], clean) {
			t.Error("something is left")
		}
	})
}
