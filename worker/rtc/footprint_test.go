package rtc

import (
	"runtime"
	"testing"

	"github.com/dspeak/sfu/worker/handshake"
)

// BenchmarkFootprint reports the heap that a connected transport keeps: with a
// producer or not, and with so many consumers.
func BenchmarkFootprint(b *testing.B) {
	for _, role := range []struct {
		name      string
		produces  bool
		consumers int
	}{{name: "sending", produces: true}, {name: "receiving", consumers: 4}} {
		b.Run(role.name, func(b *testing.B) {
			bench := newBench(b)
			var speakers []*peer
			for i := range role.consumers {
				s := bench.connected(handshake.AEADAES128GCM)
				bench.produce(s, uint32(1+i))
				speakers = append(speakers, s)
			}
			before := liveHeap()
			n := 0
			for b.Loop() {
				p := bench.connected(handshake.AEADAES128GCM)
				if role.produces {
					bench.produce(p, uint32(100+n))
				}
				for _, s := range speakers {
					bench.consume(p, s.producers[0])
				}
				p.in, p.out = nil, nil // the client's
				n++
			}
			b.ReportMetric(float64(liveHeap()-before)/float64(n), "B/transport")
			runtime.KeepAlive(bench)
		})
	}
}

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
