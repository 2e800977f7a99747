package rtc

import (
	"testing"

	"github.com/dspeak/sfu/worker/handshake"
	"github.com/dspeak/sfu/worker/ledger"
)

// BenchmarkImport measures what a successor does before its first turn: 20 channels of
// ten users, of whom each speaks and hears the nine others.
func BenchmarkImport(b *testing.B) {
	mem := make([]byte, 64<<20)
	state, err := ledger.Create(mem, 1)
	if err != nil {
		b.Fatal(err)
	}
	bench := newBenchAlone(b, state)
	if _, err := bench.createRouter("r", nil, ledger.Digest{}); err != nil {
		b.Fatal(err)
	}
	for range 20 {
		var peers []*peer
		var producers []*producer
		for range 10 {
			p := bench.connected(handshake.AEADAES128GCM)
			p.finishForBench(b, bench)
			peers = append(peers, p)
			producers = append(producers, bench.produce(p, uint32(1+len(bench.table.producers))))
		}
		for i, p := range peers {
			for k, pr := range producers {
				if i != k {
					bench.consume(p, pr)
				}
			}
		}
	}
	twin := make([]byte, len(mem))
	for b.Loop() {
		b.StopTimer()
		copy(twin, mem)
		l, _, _ := newBenchLoop(b, bench.poller, Config{SendRingBytes: minSendRingBytes}.withDefaults())
		b.StartTimer()
		if l.ledger, _, err = ledger.Open(twin, 1); err != nil {
			b.Fatal(err)
		}
		l.readClock()
		l.resume()
		if r := l.Resumed(); r.Transports != 200 || r.Producers != 200 || r.Consumers != 1800 || r.Dropped != 0 {
			b.Fatalf("resumed %+v", r)
		}
	}
}

// finishForBench gives a transport the serialised state and last flight of a real one's size.
func (p *peer) finishForBench(b *testing.B, bench *bench) {
	b.Helper()
	for blob, size := range map[*ledger.Blob]int{&p.rec.State: 830, &p.rec.LastFlight: 150, &p.rec.AppData: 1500} {
		if err := bench.ledger.SetBlob(blob, make([]byte, size)); err != nil {
			b.Fatal(err)
		}
	}
}
