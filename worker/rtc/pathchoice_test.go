package rtc

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/rtcp"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/worker/handshake"
	"github.com/dspeak/sfu/worker/netio"
	"github.com/dspeak/sfu/worker/stun"
)

// roamer is a client with several paths on a bench whose clock the test moves.
type roamer struct {
	*bench

	p         *peer
	ahead     time.Duration
	validated map[netip.AddrPort]bool
	seq       uint16
}

func newRoamer(t *testing.T) *roamer {
	t.Helper()
	b := newBench(t)
	r := &roamer{bench: b, validated: map[netip.AddrPort]bool{}}
	b.freeze()
	r.p = b.connected(handshake.AEADAES128GCM)
	r.validated[r.p.src.addr] = true
	b.produce(r.p, 7)
	b.sink.keep = true
	return r
}

func (r *roamer) must(err error) {
	r.tb.Helper()
	if err != nil {
		r.tb.Fatal(err)
	}
}

// path is one from another address of the client to another address of ours.
func (r *roamer) path(n int) *source {
	return &source{
		port: r.port, addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 4000),
		local: netio.LocalOf(netip.AddrFrom4([4]byte{198, 51, 100, byte(n)})),
	}
}

// after lets time pass, with the sweeps that it brings.
func (r *roamer) after(d time.Duration) {
	for ; d > 0; d -= sweepPeriod {
		r.ahead += min(d, sweepPeriod)
		r.pass(min(d, sweepPeriod))
		r.sweep(r.p.transport)
	}
}

func (r *roamer) check(src *source, nominate bool) {
	r.onValidCheck(r.p.transport, &stun.Request{UseCandidate: nominate}, src)
	r.validated[src.addr] = true
}

// voice is the client's next RTP packet.
func (r *roamer) voice() []byte {
	r.seq++
	raw, err := voice(7, r.seq).Marshal()
	r.must(err)
	protected, err := r.p.out.EncryptRTP(nil, raw, nil)
	r.must(err)
	return protected
}

// report is the client's next RTCP packet.
func (r *roamer) report() []byte {
	raw, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: 9}})
	r.must(err)
	protected, err := r.p.out.EncryptRTCP(nil, raw, nil)
	r.must(err)
	return protected
}

func (r *roamer) comes(src *source, b []byte) {
	r.onDatagram(append([]byte(nil), b...), src, r.now)
}

// wants fails the test unless packets go to a path.
func (r *roamer) wants(src *source, when string) {
	r.tb.Helper()
	tu := r.p.ice.selected
	if tu == nil || tu.addr != src.addr || tu.key.local != src.local {
		r.tb.Fatalf("%s: packets go to %+v, want %v", when, tu, src.addr)
	}
}

// TestPathChoice plays what clients and networks do, one row each.
func TestPathChoice(t *testing.T) {
	for name, play := range map[string]func(r *roamer, a, b *source){
		"a NAT's port changes while Firefox speaks: checks without nomination": func(r *roamer, a, b *source) {
			r.comes(b, r.voice())
			r.wants(a, "no check came over the new path yet")
			r.check(b, false)
			r.wants(a, "a check alone")
			r.comes(b, r.voice())
			r.wants(b, "the client's packets come from there")
		},
		"a NAT's port changes while Firefox only listens": func(r *roamer, a, b *source) {
			r.comes(a, r.report())
			r.after(2 * time.Second)
			r.check(b, false)
			r.wants(a, "the old path was heard from lately")
			r.comes(b, r.report())
			r.wants(b, "a report came")
		},
		"the old path is dead and the client sends nothing but checks": func(r *roamer, _, b *source) {
			r.after(500 * time.Millisecond)
			for range 3 {
				r.check(b, false)
				r.after(1500 * time.Millisecond)
			}
			r.wants(b, "the old path was silent for long enough")
		},
		"UDP gets out but not in: nominated again and again, never heard from": func(r *roamer, a, b *source) {
			udp := r.path(3)
			for range 10 { // before the handshake
				r.check(udp, true)
				r.after(100 * time.Millisecond)
			}
			r.comes(a, r.report())
			r.comes(a, r.report())
			for range 20 {
				for range 12 { // Firefox checks the path that it uses every 4 to 6 s
					r.check(udp, true)
					r.wants(a, "the client sends over it")
					r.after(500 * time.Millisecond)
				}
				r.check(a, false)
			}
			_ = b
		},
		"a recorded check sent from elsewhere": func(r *roamer, a, thief *source) {
			for range 40 {
				r.check(a, false)
				r.comes(a, r.voice())
				for range 5 {
					r.after(400 * time.Millisecond)
					r.check(thief, true)
					r.wants(a, "the client is there")
				}
			}
		},
		"a recorded check draws packets away in a pause: the client's next sign brings them back": func(r *roamer, a, thief *source) {
			r.after(shortSilence)
			r.check(thief, true)
			r.wants(thief, "nothing speaks for the old path any more")
			r.check(a, false)
			r.wants(a, "it does again")
		},
		"recorded packets sent from elsewhere": func(r *roamer, a, thief *source) {
			r.check(thief, true)
			for range 50 {
				v, w := r.voice(), r.report()
				r.comes(a, v)
				r.comes(a, w)
				r.after(300 * time.Millisecond)
				r.comes(thief, v)
				r.comes(thief, w)
				r.wants(a, "the client is there")
			}
		},
		"a report of a source that may have been forgotten": func(r *roamer, a, thief *source) {
			r.check(thief, true)
			raw, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: 10}})
			r.must(err)
			protected, err := r.p.out.EncryptRTCP(nil, raw, nil)
			r.must(err)
			r.comes(thief, protected)
			r.wants(a, "it may have come before")
		},
		"packets that were overtaken": func(r *roamer, a, b *source) {
			r.comes(a, r.report())
			late, lateReport := r.voice(), r.report()
			r.check(b, false)
			r.comes(b, r.voice())
			r.wants(b, "the client moved")
			r.after(100 * time.Millisecond)
			r.comes(a, late)
			r.comes(a, lateReport)
			r.wants(b, "these were sent before")
			r.after(settleFor)
			r.comes(a, r.voice())
			r.wants(a, "but this was sent afterwards")
		},
		"to another network and back": func(r *roamer, a, b *source) {
			for _, at := range []*source{b, a, b, a} {
				r.after(2 * time.Second)
				r.check(at, true)
				r.comes(at, r.voice())
				r.wants(at, "the client's packets come from there")
			}
		},
		"another of our addresses, the same one of the client": func(r *roamer, a, b *source) {
			other := *a
			other.local = netio.LocalOf(netip.MustParseAddr("198.51.100.99"))
			r.comes(&other, r.voice())
			r.wants(a, "no check came to that address")
			r.check(&other, true)
			r.comes(&other, r.voice())
			r.wants(&other, "the client asks there now")
			_ = b
		},
		"a flood of paths that come once leaves the paths in use": func(r *roamer, a, b *source) {
			r.comes(a, r.voice())
			r.check(b, false)
			r.after(300 * time.Millisecond)
			r.comes(b, r.voice())
			for n := range 100 {
				r.check(r.path(20+n), true)
				r.after(10 * time.Millisecond)
			}
			r.wants(b, "the client is there")
			r.comes(a, r.voice())
			r.wants(a, "a path that was in use lately is remembered")
		},
		"old paths make room for living ones": func(r *roamer, a, b *source) {
			for n := range maxTuples { // the client was on all of these
				r.check(r.path(20+n), true)
				r.after(300 * time.Millisecond)
				r.comes(r.path(20+n), r.voice())
			}
			r.after(longSilence)
			r.check(a, false)
			r.check(b, false)
			for n := range maxTuples - 3 {
				r.check(r.path(40+n), false)
			}
			r.comes(a, r.voice())
			r.wants(a, "it is remembered")
			r.after(settleFor)
			r.comes(b, r.voice())
			r.wants(b, "it is remembered, too")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoamer(t)
			a := r.path(1)
			r.check(a, true)
			r.after(time.Second)
			r.comes(a, r.report())
			r.comes(a, r.voice())
			r.wants(a, "at first")
			r.after(settleFor)
			play(r, a, r.path(2))
		})
	}
}

// TestHandshakePaths: a flight goes back where the client's came from; before any came it
// goes wherever the client checks.
func TestHandshakePaths(t *testing.T) {
	r := newRoamer(t)
	tr := r.addressed()
	a, b := r.path(1), r.path(2)
	r.onValidCheck(tr, &stun.Request{UseCandidate: true}, a)
	r.onValidCheck(tr, &stun.Request{UseCandidate: true}, b)
	flight := func() map[netip.AddrPort]int {
		r.sink.kept = nil
		r.sendFlight(tr, []byte{22, 1, 2, 3})
		r.flush()
		got := map[netip.AddrPort]int{}
		for _, k := range r.sink.kept {
			got[k.to] += len(k.packets)
		}
		return got
	}
	if got := flight(); len(got) != 2 || got[a.addr] != 1 || got[b.addr] != 1 {
		t.Fatalf("before the client's first datagram: %v", got)
	}
	record := []byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	r.onDatagram(record, a, r.now)
	if got := flight(); len(got) != 1 || got[a.addr] != 1 || tr.ice.selected.addr != a.addr {
		t.Fatalf("after one from the first path: %v", got)
	}
	r.onDatagram(record, b, r.now) // maybe a recorded one
	if got := flight(); len(got) != 2 || tr.ice.selected.addr != a.addr {
		t.Fatalf("after one from both: %v", got)
	}
	r.pass(stayFor)
	r.onDatagram(record, b, r.now)
	if tr.ice.selected.addr != b.addr {
		t.Fatal("the handshake goes on over another path")
	}
}

// addressed is a transport that is not connected yet.
func (r *roamer) addressed() *transport {
	id := ident.TransportID("fresh")
	_, err := r.createTransport(CreateTransportParams{Router: "r", ID: id})
	r.must(err)
	return r.table.transports[id]
}

// way is a path of the simulated network, whose directions work or not.
type way struct {
	src     *source
	out, in bool // from the client, to the client
}

// TestPathChoiceProperty plays clients of all kinds on networks whose paths die and come
// to life at random, either direction by itself. When some path works both ways, the
// client finds it within seconds as ICE agents do, and so must we; and no packet ever
// goes to an address that no check validated.
func TestPathChoiceProperty(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { roam(t, seed) })
	}
}

// within is how long after the network's last change packets flow: the client's notice,
// its next check, and our patience with a silent path.
const within = 6*time.Second + 6*time.Second + longSilence

func roam(t *testing.T, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 10))
	r := newRoamer(t)
	speaker := r.connected(handshake.AEADAES128GCM)
	r.consume(r.p, r.produce(speaker, 99))
	r.validated[speaker.src.addr] = true
	talks, nominatesOnce := rng.IntN(2) == 0, rng.IntN(2) == 0
	ways := make([]*way, 4)
	for i := range ways {
		ways[i] = &way{src: r.path(i + 1), out: true, in: rng.IntN(2) == 0}
	}
	ways[0].in = true
	uses := ways[0]
	var nominated map[*way]bool
	next := map[string]time.Duration{}
	due := func(what string, lo, hi time.Duration) bool {
		if r.ahead < next[what] {
			return false
		}
		next[what] = r.ahead + lo + time.Duration(rng.Int64N(int64(hi-lo)))
		return true
	}
	nominated = map[*way]bool{}
	calmSince, told, noticed := r.ahead, uint16(0), r.ahead
	for r.ahead < 4*time.Minute {
		r.after(100 * time.Millisecond)
		if due("change", 15*time.Second, 60*time.Second) {
			for _, w := range ways {
				w.out, w.in = rng.IntN(4) > 0, rng.IntN(3) > 0
			}
			calmSince, noticed = r.ahead, r.ahead+time.Duration(rng.Int64N(int64(6*time.Second)))
		}
		if r.ahead >= noticed && (!uses.out || !uses.in) { // it chooses a path that answers
			for _, i := range rng.Perm(len(ways)) {
				if ways[i].out && ways[i].in {
					uses = ways[i]
					if uses.out {
						r.check(uses.src, true)
					}
					break
				}
			}
		}
		for i, w := range ways { // the others get checks without an answer
			if w != uses && w.out && due(fmt.Sprint("other", i), 400*time.Millisecond, 8*time.Second) {
				r.check(w.src, rng.IntN(2) == 0)
			}
		}
		if uses.out && due("check", 2500*time.Millisecond, 6*time.Second) {
			r.check(uses.src, !nominatesOnce || !nominated[uses])
			nominated[uses] = true
		}
		if talks && uses.out {
			r.comes(uses.src, r.voice())
		}
		if uses.out && due("report", time.Second, 5*time.Second) {
			r.comes(uses.src, r.report())
		}
		r.sink.kept = nil
		told++
		r.arrive(speaker, voice(99, told))
		r.flush()
		for _, k := range r.sink.kept {
			if !r.validated[k.to] {
				t.Fatalf("a packet went to %s, which nobody validated", k.to)
			}
		}
		if r.ahead-calmSince > within && uses.out && uses.in && r.p.ice.selected.addr != uses.src.addr {
			t.Fatalf("at %s: packets go to %v, the client uses %v", r.ahead, r.p.ice.selected.addr, uses.src.addr)
		}
	}
}

// TestPathsAfterATakeover: a successor sends over the same pair of addresses, and knows
// which paths the client only checks.
func TestPathsAfterATakeover(t *testing.T) {
	r := newRoamer(t)
	a, unused := r.path(1), r.path(3)
	r.check(unused, true)
	r.after(time.Second)
	r.check(a, false)
	r.comes(a, r.voice())
	r.wants(a, "before")
	r.check(unused, true)

	next := newBenchOn(t, r.ledger, r.poller, r.cfg)
	next.frozen = r.frozen
	next.clock = func() time.Time { return next.frozen }
	next.base = r.base
	next.readClock()
	tr := next.table.transports[r.p.id]
	now := &roamer{bench: next, p: &peer{transport: tr, in: r.p.in, out: r.p.out}, validated: r.validated, seq: r.seq}
	// The sockets are other objects now.
	after := func(src *source) *source { return &source{port: next.port, addr: src.addr, local: src.local} }
	now.wants(after(a), "after")
	for range 20 {
		now.check(after(unused), true)
		now.after(400 * time.Millisecond)
		now.wants(after(a), "nominations of an unused path")
	}
	now.check(after(r.path(2)), false)
	now.comes(after(r.path(2)), now.voice())
	now.wants(after(r.path(2)), "the client moves again")
	b := after(r.path(2))
	now.sink.keep = true
	now.send(tr, []byte{1})
	now.flush()
	if kept := now.sink.kept; len(kept) == 0 || kept[len(kept)-1].to != b.addr || kept[len(kept)-1].from != b.local {
		t.Errorf("sent %+v, want from %v to %v", kept, b.local, b.addr)
	}
}
