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
	packets, wraps := 0, 0
	for seed := range seeds {
		p := newProof(t, seed, nil)
		p.run(kills)
		if p.fault != nil {
			t.Fatalf("seed %d: %v", seed, p.fault)
		}
		packets += p.packets
		for _, a := range p.actors {
			if a.next > 1<<16 {
				wraps++
			}
		}
	}
	if wraps == 0 {
		t.Fatal("no number wrapped")
	}
	t.Logf("%d kills, %d protected packets, %d streams that wrapped", int(seeds)*kills, packets, wraps)
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
