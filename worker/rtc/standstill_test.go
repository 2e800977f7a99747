package rtc

import (
	"testing"
	"time"

	"github.com/dspeak/sfu/worker/handshake"
)

// standStill makes the loop stand still for so long, and returns when it turns again.
func (r *rig) standStill(d time.Duration) {
	r.t.Helper()
	r.onLoop(func() { r.standstill = standstill{from: standstillFrom} })
	r.clock.advance(d)
	r.eventually("the loop turns again", func() bool {
		var took time.Duration
		r.onLoop(func() { took = r.standstill.took })
		return took >= d
	})
	r.onLoop(func() { r.standstill.from = 0 })
}

// TestStandstillIsForgiven: clients that could not be heard keep their consent, their
// paths and the time to connect, and lose them later as ever.
func TestStandstillIsForgiven(t *testing.T) {
	for _, took := range []time.Duration{2 * time.Second, 30 * time.Second, 90 * time.Second} {
		t.Run(took.String(), func(t *testing.T) {
			r := newRig(t, nil)
			a, b := pair(r)
			r.consume(b, r.produce(a, 5, "0"))
			over := dialTCP(t, a.addr("tcp", true))
			defer over.close()
			r.eventually("accepted", func() bool { u, _ := r.Usage(r.ctx); return u.TCPConnections == 1 })
			id, _ := r.transport(r.router())
			params := DtlsParameters{Role: "client"}
			for _, f := range clientPrints(t) {
				params.Fingerprints = append(params.Fingerprints, DtlsFingerprint{Algorithm: f.Algorithm, Value: f.Value})
			}
			if _, err := r.ConnectTransport(r.ctx, id, params); err != nil {
				t.Fatal(err)
			}
			r.standStill(took)
			sweeps := func() { // every transport is visited
				for range 20 {
					r.clock.advance(sweepPeriod / 2)
					r.onLoop(func() {})
				}
			}
			sweeps()
			for len(r.Events()) > 0 {
				if e := <-r.Events(); e.Kind == EventTransportClosed || e.IceState == IceDisconnected {
					t.Fatalf("event %+v", e)
				}
			}
			if u, err := r.Usage(r.ctx); err != nil || u.TCPConnections != 1 {
				t.Fatalf("%+v, %v", u, err)
			}
			r.clock.advance(backlogFor) // the clock of arrival times does not follow the test's
			a.speak(5, 1)
			b.hear()
			r.clock.advance(31 * time.Second)
			r.waitEvent("consent expires", func(e Event) bool {
				return e.Kind == EventTransportClosed && e.Transport == a.transport && e.Reason == ReasonConsentExpired
			})
		})
	}
}

// TestBacklogIsNotForwarded: what waited in the socket through a standstill is booked,
// but nobody gets speech of half a minute ago.
func TestBacklogIsNotForwarded(t *testing.T) {
	b := newBench(t)
	b.freeze()
	b.sink.keep = true
	speaker, listener := b.connected(handshake.AEADAES128GCM), b.connected(handshake.AEADAES128GCM)
	p := b.produce(speaker, 7)
	b.consume(listener, p)
	b.arrive(speaker, voice(7, 1))
	if got := b.sentTo(listener); len(got) != 1 {
		t.Fatalf("%d packets before", len(got))
	}
	const took = 30 * time.Second
	arrived := b.wall + int64(time.Second)
	b.pass(took)
	b.readClock()
	b.standstill.from = standstillFrom
	b.noteTurn(took)
	if at := b.arrival(arrived); b.now-at != instant(took-time.Second) {
		t.Fatalf("a packet of the standstill is %v old", time.Duration(b.now-at))
	}
	if !b.leaveOut(p, b.arrival(arrived)) || b.leaveOut(p, b.now) {
		t.Fatal("the wrong packet is left out")
	}
	b.pass(backlogFor)
	b.readClock()
	if at := b.arrival(arrived); at != b.now {
		t.Fatal("the clock was set, and a packet counts as old")
	}
}
