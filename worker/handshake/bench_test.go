package handshake

import (
	"bytes"
	"runtime"
	"testing"
)

// BenchmarkHandshake is a full handshake, both sides together: the peer does
// about as much as we do.
func BenchmarkHandshake(b *testing.B) {
	for _, role := range []Role{Server, Client} {
		name := "server"
		if role == Client {
			name = "client"
		}
		b.Run(name, func(b *testing.B) {
			p := newPool(b, Config{})
			cert, prints := newCert(b)
			b.ReportAllocs()
			for b.Loop() {
				l := newLink(b, p, setup{role: role, cert: cert, prints: prints})
				l.mustFinish()
				l.close()
			}
		})
	}
}

// BenchmarkFinished reports what stays of a finished handshake.
func BenchmarkFinished(b *testing.B) {
	p := newPool(b, Config{})
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var kept []Result
	goroutines, before := runtime.NumGoroutine(), heap()
	for b.Loop() {
		l := newLink(b, p, setup{role: Server})
		kept = append(kept, l.mustFinish())
		l.close()
	}
	n := float64(len(kept))
	b.ReportMetric((float64(heap())-float64(before))/n, "B/finished")
	b.ReportMetric(float64(len(kept[0].State)), "B/state")
	b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/n, "goroutines/finished")
	runtime.KeepAlive(kept)
}

// BenchmarkParseAlert is what a hostile sender of alerts can cost.
func BenchmarkParseAlert(b *testing.B) {
	state, notify := closedLink(b, Server)
	forged := bytes.Clone(notify)
	forged[len(forged)-1] ^= 1
	for name, datagram := range map[string][]byte{"real": notify, "forged": forged, "not_an_alert": {22, 0xfe, 0xfd}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseAlert(state, datagram); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
