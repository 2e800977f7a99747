package rtc

import (
	"slices"
	"testing"
	"time"

	"github.com/dspeak/sfu/worker/handshake"
)

func TestFullSocket(t *testing.T) {
	b := newBench(t)
	b.freeze()
	b.sink.keep = true
	b.sink.full = true
	speaker, listener := b.connected(handshake.AEADAES128GCM), b.connected(handshake.AEADAES128GCM)
	b.consume(listener, b.produce(speaker, 7))
	b.arrive(speaker, voice(7, 1))
	b.flush()
	b.arrive(speaker, voice(7, 2))
	b.flush()
	b.sink.full = false
	b.flushPort(b.port)
	if got := b.sentTo(listener); len(got) != 2 {
		t.Fatalf("%d packets after the socket had room again, want 2", len(got))
	}
	b.sink.full = true
	b.arrive(speaker, voice(7, 3))
	b.flush()
	b.pass(time.Second)
	b.arrive(speaker, voice(7, 4))
	b.flush()
	b.sink.full = false
	if got := b.sentTo(listener); len(got) != 1 || listener.count.dropped != 1 {
		t.Fatalf("%d packets sent, %d dropped; the late one of two should be", len(got), listener.count.dropped)
	}
	b.arrive(speaker, voice(7, 5))
	if got := b.sentTo(listener); len(got) != 1 {
		t.Fatal("nothing is sent after the drop")
	}
}

// TestFullSocketIsFair: a socket that takes only half of what it is given, for long.
// The oldest packets are given up, and no receiver gets much less than another.
func TestFullSocketIsFair(t *testing.T) {
	const receivers, rounds = 20, 400
	b := newBench(t)
	b.freeze()
	speaker := b.connected(handshake.AEADAES128GCM)
	p := b.produce(speaker, 7)
	var listeners []*peer
	for range receivers {
		l := b.connected(handshake.AEADAES128GCM)
		b.consume(l, p)
		listeners = append(listeners, l)
	}
	before := make([]uint64, receivers)
	for i, l := range listeners {
		before[i] = l.count.sent
	}
	for i := range rounds {
		b.pass(20 * time.Millisecond)
		b.sink.full, b.sink.room = false, receivers/2
		b.arrive(speaker, voice(7, uint16(i+1)))
		b.flush()
	}
	var got []int
	for i, l := range listeners {
		got = append(got, int(l.count.sent-before[i]-l.count.dropped)) // what waits still counts in all alike
	}
	least, most := slices.Min(got), slices.Max(got)
	if least < rounds*4/10 || most > rounds*6/10 {
		t.Fatalf("receivers got %d to %d of %d packets: %v", least, most, rounds, got)
	}
	if n := b.port.media.waiting(); n > 3*receivers {
		t.Fatalf("%d sends wait: more than the time that any may wait", n)
	}
}

// TestChecksGoBeforeMedia: behind a backlog of media, an answer to a check is the first
// that a full socket takes again.
func TestChecksGoBeforeMedia(t *testing.T) {
	b := newBench(t)
	b.sink.keep, b.sink.full = true, true
	speaker, listener := b.connected(handshake.AEADAES128GCM), b.connected(handshake.AEADAES128GCM)
	b.consume(listener, b.produce(speaker, 7))
	b.arrive(speaker, voice(7, 1))
	b.flush()
	b.reply(speaker.transport, &speaker.src, []byte("answer"))
	b.flush()
	b.sink.full = false
	b.flushPort(b.port)
	if len(b.sink.kept) != 2 || string(b.sink.kept[0].packets[0]) != "answer" {
		t.Fatalf("%d sends, the first %q", len(b.sink.kept), b.sink.kept[0].packets[0])
	}
	if b.port.full {
		t.Fatal("the socket is still watched")
	}
}

// TestRingMakesRoomFromTheOldest: what waits for a full socket is given up only as far
// as the ring needs its place, and nothing that is overwritten is sent.
func TestRingMakesRoomFromTheOldest(t *testing.T) {
	b := newBench(t)
	b.out.ring = testRing(b.tb, minSendRingBytes)
	b.out.since = b.out.ring.head
	b.sink.keep, b.sink.full = true, true
	speaker, listener := b.connected(handshake.AEADAES128GCM), b.connected(handshake.AEADAES128GCM)
	c := b.consume(listener, b.produce(speaker, 7))
	b.freeze()
	const size = 200
	const packets = minSendRingBytes / size // more than the ring holds, with headers
	for i := range packets {
		pkt := voice(7, uint16(i+1))
		pkt.Payload = make([]byte, size)
		b.arrive(speaker, pkt)
		b.flush()
	}
	dropped := int(listener.count.dropped)
	if dropped == 0 || dropped == packets {
		t.Fatalf("%d of %d packets dropped", dropped, packets)
	}
	b.sink.full = false
	got := b.sentTo(listener)
	if len(got) != packets-dropped {
		t.Fatalf("%d authentic packets, %d of %d were dropped", len(got), dropped, packets)
	}
	for i, p := range got {
		if p.SSRC != c.ssrc || i > 0 && p.SequenceNumber != got[i-1].SequenceNumber+1 {
			t.Fatalf("packet %d is %d behind %d", i, p.SequenceNumber, got[max(i-1, 0)].SequenceNumber)
		}
	}
}

func TestTooLate(t *testing.T) {
	draw := func(v float64) func() float64 { return func() float64 { return v } }
	for name, row := range map[string]struct {
		age  time.Duration
		draw float64
		want bool
	}{
		"fresh":                             {freshFor, 0, false},
		"a little late, unlucky":            {freshFor + time.Millisecond, 0.001, true},
		"a little late, lucky":              {freshFor + time.Millisecond, 0.5, false},
		"half way, unlucky":                 {(freshFor + staleFor) / 2, 0.49, true},
		"half way, lucky":                   {(freshFor + staleFor) / 2, 0.51, false},
		"stale":                             {staleFor, 0.999, true},
		"the clock of the arrival is ahead": {-time.Second, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tooLate(row.age, draw(row.draw)); got != row.want {
				t.Fatalf("got %v", got)
			}
		})
	}
}

// TestOverload plays a loop that can forward half of what arrives: the age of packets
// stays bounded, every speaker is heard alike, and all is whole at once when the load
// falls.
func TestOverload(t *testing.T) {
	const speakers, rounds = 10, 500
	const settled = 75                            // rounds until an overload is sustained and its first backlog gone
	const each = 20 * time.Millisecond / speakers // between two packets
	const cost = 2 * each                         // of forwarding one
	b := newBench(t)
	listener := b.connected(handshake.AEADAES128GCM)
	var heard []*consumer
	var talking []*peer
	for i := range speakers {
		s := b.connected(handshake.AEADAES128GCM)
		talking = append(talking, s)
		heard = append(heard, b.consume(listener, b.produce(s, uint32(100+i))))
	}
	var oldest time.Duration
	b.freeze()
	start, played := b.now, 0
	play := func(n int, cost time.Duration) {
		for ; n > 0; n-- {
			i := played % speakers
			at := start + instant(played)*instant(each)
			if b.now < at {
				b.pass(time.Duration(at - b.now)) // idle
			}
			before := b.count.sent
			b.arriveAt(talking[i], voice(uint32(100+i), uint16(played/speakers+1)), at)
			b.flush()
			if b.count.sent > before {
				if played > speakers*settled {
					oldest = max(oldest, time.Duration(b.now-at))
				}
				b.pass(cost)
			}
			played++
		}
	}
	play(speakers*rounds, cost)
	if oldest >= staleFor || b.count.late == 0 {
		t.Fatalf("a packet of age %v was forwarded, %d left out", oldest, b.count.late)
	}
	for i, c := range heard {
		if got := c.entry().packets; got < rounds*35/100 || got > rounds*65/100 {
			t.Errorf("speaker %d: %d of %d packets forwarded", i, got, rounds)
		}
	}
	// The load falls: nothing is left out after less than a second.
	play(speakers*50, each/4)
	late := b.count.late
	play(speakers*50, each/4)
	if b.count.late != late {
		t.Fatalf("%d packets left out after the load fell", b.count.late-late)
	}
}

// TestMomentWithoutCPU: what gathers while the loop stands still for a moment, is
// forwarded.
func TestMomentWithoutCPU(t *testing.T) {
	b := newBench(t)
	b.freeze()
	speaker, listener := b.connected(handshake.AEADAES128GCM), b.connected(handshake.AEADAES128GCM)
	c := b.consume(listener, b.produce(speaker, 7))
	const packets = 500
	for i := range packets {
		at := b.now
		if i%20 == 0 {
			b.pass(300 * time.Millisecond)
		}
		b.arriveAt(speaker, voice(7, uint16(i+1)), at)
		b.flush()
		b.pass(20 * time.Millisecond)
	}
	if got := c.entry().packets; got != packets || b.count.late != 0 {
		t.Fatalf("%d of %d packets forwarded", got, packets)
	}
}
