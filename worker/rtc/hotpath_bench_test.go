package rtc

import (
	"fmt"
	"testing"

	pionstun "github.com/pion/stun/v3"

	"github.com/dspeak/sfu/worker/handshake"
)

// BenchmarkDemultiplex tells a datagram's protocol and finds its transport among
// so many; nobody there produces its SSRC.
func BenchmarkDemultiplex(b *testing.B) {
	for _, transports := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("transports=%d", transports), func(b *testing.B) {
			bench := newBench(b)
			var peers []*peer
			for range transports {
				peers = append(peers, bench.connected(handshake.AEADAES128GCM))
			}
			raw, err := voice(7, 0).Marshal()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				bench.onDatagram(raw, &peers[i%transports].src, bench.now)
			}
			if bench.count.unknownSource > 0 {
				b.Fatal("a source is unknown")
			}
		})
	}
}

// BenchmarkSTUN is the answer to a valid check of a connected client, the socket
// not included.
func BenchmarkSTUN(b *testing.B) {
	bench := newBench(b)
	p := bench.connected(handshake.AEADAES128GCM)
	cred := &p.ice.credentials
	m, err := pionstun.Build(pionstun.TransactionID, pionstun.BindingRequest, pionstun.NewUsername(cred.ufrag+":peer"),
		pionstun.RawAttribute{Type: pionstun.AttrPriority, Value: []byte{1, 2, 3, 4}}, controlling, useCandidate,
		pionstun.NewShortTermIntegrity(cred.password), pionstun.Fingerprint)
	if err != nil {
		b.Fatal(err)
	}
	answered := 0
	b.ReportAllocs()
	for b.Loop() {
		bench.onDatagram(m.Raw, &p.src, bench.now)
		bench.flush()
		answered++
	}
	if bench.sink.packets != answered {
		b.Fatalf("%d answers to %d checks", bench.sink.packets, answered)
	}
}
