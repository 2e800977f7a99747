package rtc

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/worker/handshake"
)

// BenchmarkSend measures what one copy costs with the socket included, by how many
// packets of differing sizes wait for one destination, and by how they are made to
// fit one send. cpu-ns is the CPU time of
// the sending thread, the kernel's part included.
func BenchmarkSend(b *testing.B) {
	const listeners = 50
	for _, together := range []int{1, 2, 4, 8} {
		for _, padTo := range []int{0, 16, 32, 64} {
			b.Run(fmt.Sprintf("together=%d/pad=%d", together, padTo), func(b *testing.B) {
				bench := newBench(b)
				bench.port.sock = listenUDP(b, "udp4", "127.0.0.1")
				defer func() { _ = bench.port.sock.Close() }()
				sinkPort := benchSink(b)
				bench.out.padTo = padTo
				var speakers []*peer
				for i := range together {
					s := bench.connected(handshake.AEADAES128GCM)
					bench.produce(s, uint32(100+i))
					speakers = append(speakers, s)
				}
				for i := range listeners {
					l := bench.connected(handshake.AEADAES128GCM)
					l.ice.selected.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}), sinkPort)
					for _, s := range speakers {
						bench.consume(l, s.producers[0])
					}
				}
				rng := rand.New(rand.NewPCG(1, 2))
				payload := make([]byte, 200)
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				var cpu int64
				b.ResetTimer()
				for i := range b.N {
					packets := make([][]byte, together)
					for k, s := range speakers {
						p := voice(uint32(100+k), uint16(i))
						p.Payload = payload[:90+rng.IntN(80)]
						raw, _ := p.Marshal()
						packets[k], _ = s.out.EncryptRTP(nil, raw, nil)
					}
					before := cpuNanos()
					bench.readClock()
					for k, s := range speakers {
						bench.onDatagram(packets[k], &s.src, bench.now)
					}
					bench.flush()
					cpu += cpuNanos() - before
				}
				b.ReportMetric(float64(cpu)/float64(b.N*listeners*together), "cpu-ns/copy")
			})
		}
	}
}

func cpuNanos() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return ts.Nano()
}

// benchSink binds a socket that takes everything sent to 127/8 and reads nothing.
func benchSink(b *testing.B) uint16 {
	b.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4zero})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return netip.MustParseAddrPort(conn.LocalAddr().String()).Port()
}

// BenchmarkForward measures one incoming packet and its copies, sockets not
// included.
func BenchmarkForward(b *testing.B) {
	for _, consumers := range []int{1, 10, 100, 1000} {
		for _, profile := range []handshake.Profile{handshake.AEADAES128GCM, handshake.AES128CMHMACSHA180} {
			name := "gcm"
			if profile == handshake.AES128CMHMACSHA180 {
				name = "sha1"
			}
			b.Run(fmt.Sprintf("%s/consumers=%d", name, consumers), func(b *testing.B) {
				bench := newBench(b)
				speaker := bench.connected(profile)
				pr := bench.produce(speaker, 7)
				for range consumers {
					bench.consume(bench.connected(profile), pr)
				}
				p := voice(7, 0)
				p.Payload = append(p.Payload, make([]byte, 120)...)
				var protected []byte
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					b.StopTimer()
					p.SequenceNumber = uint16(i)
					raw, _ := p.Marshal()
					protected, _ = speaker.out.EncryptRTP(protected[:0], raw, nil)
					bench.readClock()
					b.StartTimer()
					bench.onDatagram(protected, &speaker.src, bench.now)
					bench.flush()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(bench.sink.packets), "ns/copy")
			})
		}
	}
}

// BenchmarkForwardCold is a packet whose listeners' state has left the CPU's caches since
// the one before, as with one speaker: 20 ms are long.
func BenchmarkForwardCold(b *testing.B) {
	const consumers = 200
	bench := newBench(b)
	speaker := bench.connected(handshake.AEADAES128GCM)
	pr := bench.produce(speaker, 7)
	for range consumers {
		bench.consume(bench.connected(handshake.AEADAES128GCM), pr)
	}
	p := voice(7, 0)
	p.Payload = append(p.Payload, make([]byte, 120)...)
	others := make([]byte, 64<<20)
	var protected []byte
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var cpu int64
	for i := 0; b.Loop(); i++ {
		p.SequenceNumber = uint16(i)
		raw, _ := p.Marshal()
		protected, _ = speaker.out.EncryptRTP(protected[:0], raw, nil)
		bench.readClock()
		for k := 0; k < len(others); k += 64 {
			others[k]++
		}
		before := cpuNanos()
		bench.onDatagram(protected, &speaker.src, bench.now)
		bench.flush()
		cpu += cpuNanos() - before
	}
	b.ReportMetric(float64(cpu)/float64(bench.sink.packets), "cpu-ns/copy")
}
