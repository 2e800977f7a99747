package rtc

import (
	"bytes"
	"slices"
	"testing"
	"time"

	pionrtp "github.com/pion/rtp"

	"github.com/dspeak/sfu/worker/handshake"
	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/netio"
	"github.com/dspeak/sfu/worker/ortc"
)

// firefoxCapabilities are those of mediasoup-client in Firefox.
func firefoxCapabilities() ortc.RtpCapabilities {
	caps := ortc.RouterRtpCapabilities()
	caps.HeaderExtensions = slices.DeleteFunc(caps.HeaderExtensions, func(e ortc.RtpHeaderExtension) bool {
		return e.URI != ortc.URIMid && e.URI != ortc.URIAudioLevel
	})
	return caps
}

// firstSection plays the part of Firefox that matters: a client whose only section is that
// of a mid. It takes a packet by its mid and, while none came, by its payload type.
type firstSection struct {
	mid  string
	ssrc uint32 // 0: no packet yet
}

// takes reports which SSRC the section has after a packet.
func (s *firstSection) takes(p *pionrtp.Packet) uint32 {
	named := string(p.GetExtension(ortc.RouterMidID)) == s.mid
	if named || s.ssrc == 0 && p.PayloadType == 100 {
		s.ssrc = p.SSRC
	}
	return s.ssrc
}

// crowd is a listener with speakers of which it consumed before its keys came.
type crowd struct {
	*bench

	listener  *peer
	speakers  []*peer
	consumers []*consumer
	seq       []uint16
}

func newCrowd(t *testing.T, speakers int, caps ortc.RtpCapabilities) *crowd {
	t.Helper()
	return newCrowdOn(newBench(t), speakers, caps)
}

func newCrowdOn(b *bench, speakers int, caps ortc.RtpCapabilities) *crowd {
	b.tb.Helper()
	c := &crowd{bench: b}
	c.freeze()
	c.listener = c.checked()
	for range speakers {
		c.join(caps)
	}
	c.sink.keep = true
	return c
}

// join adds a speaker.
func (c *crowd) join(caps ortc.RtpCapabilities) {
	c.tb.Helper()
	s := c.connected(handshake.AEADAES128GCM)
	c.speakers, c.seq = append(c.speakers, s), append(c.seq, 100)
	c.consumers = append(c.consumers, c.consumeWith(c.listener, c.produce(s, uint32(500+len(c.speakers))), caps))
}

// speak lets some speakers send a frame each, and returns what the listener got.
func (c *crowd) speak(who ...int) []*pionrtp.Packet {
	c.tb.Helper()
	for _, i := range who {
		c.seq[i]++
		c.arriveAt(c.speakers[i], voice(c.speakers[i].producers[0].stream.ssrc, c.seq[i]), c.now)
	}
	return c.sentTo(c.listener)
}

// TestFirstSectionIsNamedFirst: whichever section the client makes first, whoever speaks
// first, and whether consumers ended meanwhile, the section gets its own stream.
func TestFirstSectionIsNamedFirst(t *testing.T) {
	for speakers := 2; speakers <= 10; speakers++ {
		for first := range speakers {
			for _, ends := range []bool{false, true} {
				c := newCrowd(t, speakers, firefoxCapabilities())
				section, want := &firstSection{mid: c.mid(c.consumers[first])}, c.consumers[first].ssrc
				if ends {
					c.destroyConsumer(c.consumers[first])
				}
				c.finish(c.listener, handshake.AEADAES128GCM)
				loud := (first + 1) % speakers // all but the first are heard, this one before all
				began := c.now
				for range 10 {
					for _, p := range c.speak(loud) {
						media := p.PayloadType == 100
						if got := section.takes(p); got != want && (got != 0 || media) {
							t.Fatalf("%d speakers, section %d first, ended %v: it has SSRC %d, want %d", speakers, first, ends, got, want)
						}
						if media && c.now-began < instant(2*introEvery) {
							t.Fatalf("media %v after the keys", time.Duration(c.now-began))
						}
					}
					c.pass(20 * time.Millisecond)
				}
				if n := c.consumers[loud].entry().packets; n < 6 {
					t.Fatalf("%d speakers: %d of 10 packets were sent", speakers, n)
				}
			}
		}
	}
}

// TestIntroductionLeavesNoGap: the numbers of a stream go on from its introduction, its
// media are a stream of their own without a gap, and nothing is introduced beside them.
func TestIntroductionLeavesNoGap(t *testing.T) {
	c := newCrowd(t, 3, firefoxCapabilities())
	c.finish(c.listener, handshake.AES128CMHMACSHA180)
	last, media := map[uint32]uint16{}, map[uint32]int{}
	look := func(packets []*pionrtp.Packet) {
		t.Helper()
		for _, p := range packets {
			if was, ok := last[p.SSRC]; ok && p.SequenceNumber != was+1 {
				t.Fatalf("%d follows %d", p.SequenceNumber, was)
			}
			last[p.SSRC] = p.SequenceNumber
			switch {
			case p.PayloadType == 100:
				media[p.SSRC]++
			case p.PayloadType != introPayloadType || len(p.Payload) > 0:
				t.Fatalf("sent %v", p)
			case media[p.SSRC] > 0:
				t.Fatal("a stream under way is introduced")
			}
		}
	}
	for i := range 100 {
		speaking := []int{0}
		if i > 20 {
			speaking = append(speaking, 1)
		}
		look(c.speak(speaking...))
		c.sweep(c.listener.transport)
		c.pass(20 * time.Millisecond)
	}
	if silent := c.consumers[2]; media[silent.ssrc] > 0 || c.listener.intro.end != 0 {
		t.Errorf("the introduction does not end: %+v", c.listener.intro)
	}
	if a, b := media[c.consumers[0].ssrc], media[c.consumers[1].ssrc]; a < 96 || b != 79 {
		t.Errorf("%d packets of the first and %d of the second", a, b)
	}
}

// TestWhoDoesNotWait: media of clients that need no introduction start with the first
// packet, as do those of an only consumer, and of those that came later.
func TestWhoDoesNotWait(t *testing.T) {
	onlyMid := firefoxCapabilities()
	onlyMid.HeaderExtensions = onlyMid.HeaderExtensions[:1]
	for name, caps := range map[string]ortc.RtpCapabilities{
		"chromium": ortc.RouterRtpCapabilities(), "mid alone": onlyMid, "no extensions": {Codecs: onlyMid.Codecs},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrowd(t, 2, caps)
			c.finish(c.listener, handshake.AEADAES128GCM)
			if got := c.speak(1, 0); len(got) != 2 || got[0].PayloadType != 100 || got[1].PayloadType != 100 {
				t.Fatalf("sent %v", got)
			}
		})
	}
	t.Run("only consumer", func(t *testing.T) {
		c := newCrowd(t, 1, firefoxCapabilities())
		c.finish(c.listener, handshake.AEADAES128GCM)
		c.sentTo(c.listener)
		if got := c.speak(0); len(got) != 1 || got[0].PayloadType != 100 {
			t.Fatalf("sent %v", got)
		}
	})
	t.Run("unmute beside a silent first", func(t *testing.T) {
		c := newCrowd(t, 1, firefoxCapabilities())
		c.finish(c.listener, handshake.AEADAES128GCM)
		for range 50 {
			c.sweep(c.listener.transport)
			c.pass(40 * time.Millisecond)
		}
		section := &firstSection{mid: c.mid(c.consumers[0])}
		for _, p := range c.sentTo(c.listener) {
			section.takes(p)
		}
		c.join(firefoxCapabilities())
		if got := c.speak(1); len(got) != 1 || got[0].PayloadType != 100 || section.takes(got[0]) != c.consumers[0].ssrc {
			t.Fatalf("sent %v", got)
		}
	})
	t.Run("a second one at once waits for the first", func(t *testing.T) {
		c := newCrowd(t, 1, firefoxCapabilities())
		c.finish(c.listener, handshake.AEADAES128GCM)
		c.sentTo(c.listener)
		c.join(firefoxCapabilities())
		if got := c.speak(1); len(got) != 0 {
			t.Fatalf("sent %v", got)
		}
	})
}

// TestForgedRecordsHoldNobodyBack: records ask for the last flight again and again, which
// anybody could send, and the listener hears all the same.
func TestForgedRecordsHoldNobodyBack(t *testing.T) {
	c := newCrowd(t, 2, firefoxCapabilities())
	c.finish(c.listener, handshake.AEADAES128GCM)
	c.listener.dtls.flight = true
	heard := 0
	for range 50 {
		c.onRecord(c.listener.ice.selected, make([]byte, recordHeader))
		for _, p := range c.speak(1) {
			if p.PayloadType == 100 {
				heard++
			}
		}
		c.pass(20 * time.Millisecond)
	}
	if heard < 25 {
		t.Errorf("%d of 50 packets were sent", heard)
	}
}

// TestIntroductionAgainForALateClient: a client that asks for the last flight again has
// seen nothing, so that all begins anew.
func TestIntroductionAgainForALateClient(t *testing.T) {
	c := newCrowd(t, 2, firefoxCapabilities())
	c.finish(c.listener, handshake.AEADAES128GCM)
	for range 10 {
		c.speak(1)
		c.pass(20 * time.Millisecond)
	}
	c.listener.dtls.flight = true
	c.onRecord(c.listener.ice.selected, make([]byte, recordHeader))
	section := &firstSection{mid: c.mid(c.consumers[0])}
	heard := 0
	for range 10 {
		for _, p := range c.speak(1) {
			if section.takes(p) != c.consumers[0].ssrc {
				t.Fatalf("the first section took %v", p)
			}
			if p.PayloadType == 100 {
				heard++
			}
		}
		c.pass(20 * time.Millisecond)
	}
	if heard < 6 {
		t.Errorf("%d of 10 packets were sent", heard)
	}
}

// TestIntroductionOverATakeover: a successor goes on with the introduction, and no number
// of its predecessor comes again.
func TestIntroductionOverATakeover(t *testing.T) {
	poller, err := netio.NewPoller()
	mustNil(t, err)
	t.Cleanup(func() { _ = poller.Close() })
	for rounds := range 6 { // before the takeover
		mem := make([]byte, proofMemory)
		state, err := ledger.Create(mem, 1)
		mustNil(t, err)
		b := newBenchOn(t, state, poller, Config{}.withDefaults())
		_, err = b.createRouter("r", nil, ledger.Digest{})
		mustNil(t, err)
		c := newCrowdOn(b, 2, firefoxCapabilities())
		section, want := firstSection{mid: c.mid(c.consumers[0])}, c.consumers[0].ssrc
		c.finish(c.listener, handshake.AEADAES128GCM)
		seen, heard := map[[2]uint32]bool{}, 0
		look := func() {
			t.Helper()
			for _, p := range c.speak(1) {
				number := [2]uint32{p.SSRC, uint32(p.SequenceNumber)}
				if seen[number] {
					t.Fatalf("%d rounds: number %d of %d comes again", rounds, p.SequenceNumber, p.SSRC)
				}
				seen[number] = true
				if p.PayloadType == 100 {
					heard++
				}
				if got := section.takes(p); got != want && got != 0 {
					t.Fatalf("%d rounds: the first section has SSRC %d, want %d", rounds, got, want)
				}
			}
			c.pass(20 * time.Millisecond)
		}
		for range rounds {
			look()
		}
		c.succeed(t, bytes.Clone(mem))
		for range 10 {
			look()
		}
		if heard < 6 {
			t.Fatalf("%d rounds: %d packets were sent", rounds, heard)
		}
	}
}

// succeed puts a successor in the place of the bench, which has a copy of its ledger.
func (c *crowd) succeed(t *testing.T, mem []byte) {
	t.Helper()
	state, dropped, err := ledger.Open(mem, 1)
	if err != nil || dropped.Total() > 0 {
		t.Fatalf("ledger: dropped %v, %v", dropped, err)
	}
	before := c.frozen
	c.bench = newBenchOn(t, state, c.poller, Config{}.withDefaults())
	c.freeze()
	if c.frozen.Before(before) {
		c.frozen = before
	}
	c.readClock()
	c.sink.keep = true
	for _, p := range append(slices.Clone(c.speakers), c.listener) {
		id := p.id
		if p.transport, p.src.port = c.table.transports[id], c.port; p.transport == nil {
			t.Fatalf("transport %s is lost", id)
		}
	}
}
