package rtc

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtcp"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/worker/rtp"
)

// pair connects two clients of one router over UDP.
func pair(r *rig) (a, b *client) {
	r.t.Helper()
	router := r.router()
	a, b = r.newClient(router), r.newClient(router)
	a.connect(dialUDP(r.t, a.addr("udp", true)), "client")
	b.connect(dialUDP(r.t, b.addr("udp", true)), "client")
	return a, b
}

// TestTwoClientsHearEachOther runs the whole path for every way to connect.
func TestTwoClientsHearEachOther(t *testing.T) {
	type way struct {
		protocol string
		v4       bool
		role     string
		profile  dtls.SRTPProtectionProfile
		name     string
	}
	var ways []way
	for _, role := range []string{"client", "server"} {
		ways = append(ways,
			way{"udp", true, role, dtls.SRTP_AEAD_AES_128_GCM, "SRTP_AEAD_AES_128_GCM"},
			way{"udp", true, role, dtls.SRTP_AES128_CM_HMAC_SHA1_80, "SRTP_AES128_CM_HMAC_SHA1_80"})
	}
	ways = append(ways,
		way{"udp", false, "client", dtls.SRTP_AEAD_AES_128_GCM, "SRTP_AEAD_AES_128_GCM"},
		way{"tcp", true, "client", dtls.SRTP_AEAD_AES_128_GCM, "SRTP_AEAD_AES_128_GCM"},
		way{"tcp", false, "server", dtls.SRTP_AES128_CM_HMAC_SHA1_80, "SRTP_AES128_CM_HMAC_SHA1_80"})
	for _, w := range ways {
		t.Run(fmt.Sprintf("%s v4=%v dtls %s %s", w.protocol, w.v4, w.role, w.name), func(t *testing.T) {
			r := newRig(t, nil)
			router := r.router()
			var clients []*client
			for range 2 {
				c := r.newClient(router)
				dial := dialUDP
				if w.protocol == "tcp" {
					dial = dialTCP
				}
				c.connect(dial(t, c.addr(w.protocol, w.v4)), w.role, w.profile)
				clients = append(clients, c)
			}
			a, b := clients[0], clients[1]
			_, toB := r.consume(b, r.produce(a, 1111, "0"))
			_, toA := r.consume(a, r.produce(b, 2222, "1"))
			for seq := uint16(65530); seq != 10; seq++ {
				a.speak(1111, seq)
				b.speak(2222, seq)
				if p := b.hear(); p.SSRC != toB.Encodings[0].SSRC || !bytes.Equal(p.Payload, voice(1111, seq).Payload) {
					t.Fatalf("b heard %v", p)
				}
				if p := a.hear(); p.SSRC != toA.Encodings[0].SSRC || !bytes.Equal(p.Payload, voice(2222, seq).Payload) {
					t.Fatalf("a heard %v", p)
				}
			}
			d := a.dump()
			if d.IceState != IceConnected || d.SrtpProfile != w.name || d.Tuple == nil || d.Tuple.Protocol != w.protocol ||
				len(d.Producers) != 1 || len(d.Consumers) != 1 {
				t.Fatalf("dump %+v", d)
			}
		})
	}
}

func TestMediaBeforeConnectTransportIsKept(t *testing.T) {
	// The client's first flight arrives before its parameters do.
	r := newRig(t, nil)
	c := r.newClient(r.router())
	l := c.addLink(dialUDP(t, c.addr("udp", true)))
	c.check(l, useCandidate)
	// A handshake datagram out of nowhere must be kept, not answered.
	c.send([]byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0})
	c.handshake("client")
}

func TestProducerWithoutSSRCIsLearntByMid(t *testing.T) {
	r := newRig(t, nil)
	a, b := pair(r)
	id := r.produce(a, 0, "audio-mid")
	r.consume(b, id)
	for seq := range uint16(3) {
		p := voice(777, seq)
		if err := p.SetExtension(extMid, []byte("audio-mid")); err != nil {
			t.Fatal(err)
		}
		a.sendRTP(p)
		b.hear()
	}
	p := voice(888, 1) // another SSRC may not take the mid over
	if err := p.SetExtension(extMid, []byte("audio-mid")); err != nil {
		t.Fatal(err)
	}
	a.sendRTP(p)
	a.speak(777, 10)
	if got := b.hear(); !bytes.Equal(got.Payload, voice(777, 10).Payload) {
		t.Fatalf("heard %v", got)
	}
}

func TestPauseAndResumeOverTheWire(t *testing.T) {
	r := newRig(t, nil)
	a, b := pair(r)
	producer := r.produce(a, 5, "0")
	consumer, _ := r.consume(b, producer)
	a.speak(5, 100)
	first := b.hear()
	steps := []struct {
		pause, resume func() error
	}{
		{func() error { return r.PauseConsumer(r.ctx, consumer) }, func() error { return r.ResumeConsumer(r.ctx, consumer) }},
		{func() error { return r.PauseProducer(r.ctx, producer) }, func() error { return r.ResumeProducer(r.ctx, producer) }},
	}
	seq := uint16(100)
	for i, s := range steps {
		mustNil(t, s.pause())
		mustNil(t, s.pause()) // twice is no error
		for range 5 {
			seq++
			a.speak(5, seq)
		}
		r.eventually("paused packets arrived", func() bool { return r.producerPackets(producer) == uint64(seq-99) })
		mustNil(t, s.resume())
		seq++
		a.speak(5, seq)
		if p := b.hear(); p.SequenceNumber != first.SequenceNumber+uint16(i)+1 || !bytes.Equal(p.Payload, voice(5, seq).Payload) {
			t.Fatalf("after step %d heard number %d, want %d", i, p.SequenceNumber, first.SequenceNumber+uint16(i)+1)
		}
	}
}

func (r *rig) producerPackets(id ident.ProducerID) uint64 {
	s, err := r.Stats(r.ctx, StatsTarget{Producer: id})
	if err != nil {
		r.t.Fatal(err)
	}
	return s.Producers[0].Packets
}

func TestNackIsAnsweredWithTheIdenticalPacket(t *testing.T) {
	r := newRig(t, nil)
	a, b := pair(r)
	consumer, params := r.consume(b, r.produce(a, 5, "0"))
	sent := map[uint16][]byte{}
	var last uint16
	for seq := range uint16(40) {
		a.speak(5, seq)
		raw := <-b.rtp
		last = uint16(raw[2])<<8 | uint16(raw[3])
		sent[last] = raw
	}
	b.sendRTCP(
		&rtcp.ReceiverReport{SSRC: 1},
		&rtcp.TransportLayerNack{SenderSSRC: 1, MediaSSRC: params.Encodings[0].SSRC, Nacks: []rtcp.NackPair{
			{PacketID: last - 20, LostPackets: 0b101},
			{PacketID: last + 100}, // never sent
		}})
	for _, seq := range []uint16{last - 20, last - 19, last - 17} {
		select {
		case raw := <-b.rtp:
			if !bytes.Equal(raw, sent[seq]) {
				t.Fatalf("retransmission of %d differs", seq)
			}
		case <-time.After(patience):
			t.Fatal("no retransmission")
		}
	}
	s, err := r.Stats(r.ctx, StatsTarget{Consumer: consumer})
	mustNil(t, err)
	if s.Consumers[0].Retransmitted != 3 || s.Consumers[0].Packets != 40 {
		t.Fatalf("stats %+v", s.Consumers[0])
	}
}

func TestReportsBothWays(t *testing.T) {
	r := newRig(t, nil)
	a, b := pair(r)
	producer := r.produce(a, 5, "0")
	consumer, params := r.consume(b, producer)
	out := params.Encodings[0].SSRC
	for seq := range uint16(20) {
		if seq == 7 {
			continue // lost
		}
		a.speak(5, seq)
		b.hear()
	}
	ntp := uint64(0xaabbccdd11223344)
	a.sendRTCP(&rtcp.SenderReport{SSRC: 5, NTPTime: ntp, RTPTime: 1_000_000, PacketCount: 19})
	rr, ok := a.waitRTCP("receiver report", func(p rtcp.Packet) bool {
		rr, ok := p.(*rtcp.ReceiverReport)
		return ok && len(rr.Reports) == 1 && rr.Reports[0].LastSenderReport != 0
	}).(*rtcp.ReceiverReport)
	if !ok || rr.Reports[0].SSRC != 5 || rr.Reports[0].TotalLost != 1 || rr.Reports[0].LastSequenceNumber != 19 ||
		rr.Reports[0].LastSenderReport != rtp.Middle32(ntp) || rr.Reports[0].Delay == 0 {
		t.Fatalf("receiver report %+v", rr)
	}
	// Keep speaking, so that the consumer counts as a sender.
	sr, ok := b.waitRTCP("sender report", func(p rtcp.Packet) bool {
		a.speak(5, 20)
		sr, ok := p.(*rtcp.SenderReport)
		return ok && sr.SSRC == out && sr.RTPTime-1_000_000 < 48000*30
	}).(*rtcp.SenderReport)
	if !ok || sr.PacketCount < 19 {
		t.Fatalf("sender report %+v", sr)
	}
	b.sendRTCP(&rtcp.ReceiverReport{SSRC: 9, Reports: []rtcp.ReceptionReport{{
		SSRC: out, FractionLost: 64, TotalLost: 12, Jitter: 480, LastSenderReport: rtp.Middle32(sr.NTPTime), Delay: 0,
	}}})
	r.eventually("the report shows in the statistics", func() bool {
		s, err := r.Stats(r.ctx, StatsTarget{Consumer: consumer})
		mustNil(t, err)
		c := s.Consumers[0]
		return c.PacketsLost == 12 && c.FractionLost == 0.25 && c.JitterMs != nil && *c.JitterMs == 10 &&
			c.RoundTripTimeMs != nil && *c.RoundTripTimeMs < 10_000
	})
	next := uint16(21)
	r.eventually("the producer's statistics", func() bool {
		a.speak(5, next) // a level stands for a moment only
		next++
		s, err := r.Stats(r.ctx, StatsTarget{Producer: producer})
		mustNil(t, err)
		p := s.Producers[0]
		return p.PacketsLost == 1 && p.AudioLevelDbov != nil && *p.AudioLevelDbov == -30 && p.LastPacketAgeMs != nil && p.JitterMs > 0
	})
	// Nothing comes any more: what describes the moment goes, counters stay.
	r.clock.advance(time.Second)
	s, err := r.Stats(r.ctx, StatsTarget{Transport: b.transport})
	mustNil(t, err)
	if c := s.Consumers[0]; c.AudioLevelDbov != nil || c.JitterMs == nil {
		t.Errorf("a second later: %+v", c)
	}
	r.clock.advance(figureLife)
	for target, name := range map[StatsTarget]string{{Consumer: consumer}: "consumer", {Producer: producer}: "producer"} {
		s, err := r.Stats(r.ctx, target)
		mustNil(t, err)
		for _, p := range s.Producers {
			if p.AudioLevelDbov != nil || p.JitterMs != 0 || p.PacketsLost != 1 {
				t.Errorf("%s, later: %+v", name, p)
			}
		}
		for _, c := range s.Consumers {
			if c.AudioLevelDbov != nil || c.JitterMs != nil || c.RoundTripTimeMs != nil || c.FractionLost != 0 || c.PacketsLost != 12 {
				t.Errorf("%s, later: %+v", name, c)
			}
		}
	}
}

func TestLostPacketsAreAskedFor(t *testing.T) {
	r := newRig(t, nil)
	a, b := pair(r)
	r.consume(b, r.produce(a, 5, "0"))
	a.speak(5, 10)
	a.speak(5, 13)
	nack, ok := a.waitRTCP("nack", func(p rtcp.Packet) bool {
		_, ok := p.(*rtcp.TransportLayerNack)
		return ok
	}).(*rtcp.TransportLayerNack)
	if !ok || nack.MediaSSRC != 5 || len(nack.Nacks) != 1 || nack.Nacks[0].PacketID != 11 || nack.Nacks[0].LostPackets != 1 {
		t.Fatalf("nack %+v", nack)
	}
	a.speak(5, 12)
	a.speak(5, 11)
	numbers := map[uint16]bool{}
	for range 4 {
		numbers[b.hear().SequenceNumber] = true
	}
	if len(numbers) != 4 {
		t.Fatalf("heard numbers %v", numbers)
	}
}

func TestTransportWideFeedback(t *testing.T) {
	r := newRig(t, nil)
	a, _ := pair(r)
	r.produce(a, 5, "0")
	for seq := range uint16(10) {
		p := voice(5, seq)
		mustNil(t, p.SetExtension(extTWCC, []byte{0, byte(seq)}))
		a.sendRTP(p)
	}
	seen := 0
	a.waitRTCP("feedback on ten packets", func(p rtcp.Packet) bool {
		if fb, ok := p.(*rtcp.TransportLayerCC); ok && fb.MediaSSRC == 5 {
			seen += len(fb.RecvDeltas)
		}
		return seen == 10
	})
}

func TestClosingSaysGoodbye(t *testing.T) {
	r := newRig(t, nil)
	a, b := pair(r)
	producer := r.produce(a, 5, "0")
	_, params := r.consume(b, producer)
	a.speak(5, 1)
	b.hear()
	mustNil(t, r.CloseProducer(r.ctx, producer))
	b.waitRTCP("bye", func(p rtcp.Packet) bool {
		bye, ok := p.(*rtcp.Goodbye)
		return ok && len(bye.Sources) == 1 && bye.Sources[0] == params.Encodings[0].SSRC
	})
}

// TestProduceAgain is what the shipped client does to unmute: a fresh producer on
// the old transport, here with the old SSRC, whose numbers go on.
func TestProduceAgain(t *testing.T) {
	r := newRig(t, nil)
	a, b := pair(r)
	seq := uint16(65000)
	for range 5 {
		producer := r.produce(a, 5, "0")
		r.consume(b, producer)
		for range 300 {
			seq++
			a.speak(5, seq)
			if p := b.hear(); !bytes.Equal(p.Payload, voice(5, seq).Payload) {
				t.Fatalf("heard %v", p)
			}
		}
		mustNil(t, r.CloseProducer(r.ctx, producer))
	}
}

// TestBuffersAreReleased says when, and that calls go on afterwards.
func TestBuffersAreReleased(t *testing.T) {
	r := newRig(t, nil)
	for range 2 {
		a, b := pair(r)
		_, toB := r.consume(b, r.produce(a, 1111, "0"))
		a.speak(1111, 1)
		if p := b.hear(); p.SSRC != toB.Encodings[0].SSRC || !bytes.Equal(p.Payload, voice(1111, 1).Payload) {
			t.Fatalf("b heard %v", p)
		}
		if released, err := r.ReleaseBuffers(r.ctx); released || err != nil {
			t.Fatalf("in the call: released %v, %v", released, err)
		}
		for _, c := range []*client{a, b} {
			if err := r.CloseTransport(r.ctx, c.transport); err != nil {
				t.Fatal(err)
			}
		}
		if released, err := r.ReleaseBuffers(r.ctx); !released || err != nil {
			t.Fatalf("after the call: released %v, %v", released, err)
		}
	}
}

// TestForgottenDeclarationsAreRead: a listener who comes after a rush has passed hears, and
// the dump tells the parameters.
func TestForgottenDeclarationsAreRead(t *testing.T) {
	r := newRig(t, nil)
	a, b := pair(r)
	producer := r.produce(a, 11, "0")
	before := a.dump().Producers[0].ConsumableRtpParameters
	if err := r.ForgetDeclared(r.ctx); err != nil {
		t.Fatal(err)
	}
	r.onLoop(func() {
		if r.table.producers[producer].declared != nil {
			t.Error("not forgotten")
		}
	})
	r.consume(b, producer)
	a.speak(11, 1)
	b.hear()
	if after := a.dump().Producers[0].ConsumableRtpParameters; !reflect.DeepEqual(after, before) {
		t.Fatalf("%+v, was %+v", after, before)
	}
}
