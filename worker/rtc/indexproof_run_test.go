package rtc

import (
	"testing"

	"github.com/dspeak/sfu/worker/ledger"
)

// TestNoIndexTwice kills the worker thousands of times.
func TestNoIndexTwice(t *testing.T) {
	seeds, kills := uint64(12), 300
	if raceDetector || testing.Short() {
		seeds, kills = 3, 60
	}
	var packets, reports, repeats, in, out int
	for seed := range seeds {
		p := newProof(t, seed, nil)
		p.run(kills)
		if p.fault != nil {
			t.Fatalf("seed %d: %v", seed, p.fault)
		}
		packets, reports, repeats, out = packets+p.packets, reports+p.reports, repeats+p.repeats, out+p.wraps
		for _, a := range p.actors {
			in += int(a.next >> 16)
		}
	}
	if reports == 0 || repeats == 0 || in == 0 || out == 0 {
		t.Fatalf("%d RTCP packets, %d identical repetitions, %d and %d roll-overs: too few to prove anything", reports, repeats, in, out)
	}
	t.Logf("%d kills, %d protected packets, %d of RTCP, %d identical repetitions, %d roll-overs of incoming and %d of outgoing numbers",
		int(seeds)*kills, packets, reports, repeats, in, out)
}

// TestProofFindsWhatATakeoverForgets breaks the ledger in the ways in which a takeover
// could forget something: the proof must see each of them.
func TestProofFindsWhatATakeoverForgets(t *testing.T) {
	for name, forget := range map[string]func(*ledger.Ledger){
		"offset of a consumer": func(l *ledger.Ledger) {
			for c := range l.Consumers.All() {
				if _, from, _, synced := c.Mapping.Load(0); synced {
					c.Mapping.Begin(0, from)
				}
			}
		},
		"highest number of a paused consumer": func(l *ledger.Ledger) {
			for c := range l.Consumers.All() {
				if _, _, _, synced := c.Mapping.Load(0); !synced {
					c.Mapping.End(0)
				}
			}
		},
		"roll-over counter of a stream": func(l *ledger.Ledger) {
			for s := range l.Streams.All() {
				if was := s.RTP.Highest(); s.RTP.Started() {
					s.RTP = ledger.Window{}
					s.RTP.Mark(was + 70_000)
				}
			}
		},
		"replay window of a stream": func(l *ledger.Ledger) {
			for s := range l.Streams.All() {
				if was := s.RTP.Highest(); s.RTP.Started() {
					s.RTP = ledger.Window{}
					s.RTP.Mark(was)
				}
			}
		},
		"reserved SRTCP indexes": func(l *ledger.Ledger) {
			for tr := range l.Transports.All() {
				tr.RTCPReserved.Store(tr.RTCPReserved.Load() - min(tr.RTCPReserved.Load(), rtcpBlock))
			}
		},
		"consumers that are closed": func(l *ledger.Ledger) {
			for tr := range l.Transports.All() {
				tr.NextMid = 0
			}
		},
		"keys": func(l *ledger.Ledger) {
			for tr := range l.Transports.All() {
				tr.LocalKey = [ledger.KeySize]byte{}
			}
		},
		"selected address": func(l *ledger.Ledger) {
			for tr := range l.Transports.All() {
				tr.Paths[0].State.Store(ledger.PathFree)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProof(t, 1, forget)
			p.run(200)
			if p.fault == nil {
				t.Fatal("the proof saw nothing")
			}
			t.Log(p.fault)
		})
	}
}
