//go:build linux

package netio_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/dspeak/sfu/worker/netio"
)

// benchPackets is how many packets of 170 bytes one batch of a benchmark has.
const (
	benchPackets = 64
	benchSize    = 170
)

// benchSends is one batch for a number of receivers, so many packets to each.
func benchSends(receivers []netio.UDP, perSend int) []netio.Send {
	var ss []netio.Send
	for i := range benchPackets / perSend {
		to := receivers[i%len(receivers)].LocalAddr()
		ss = append(ss, netio.Send{Addr: to, Packets: sameSize(perSend, benchSize), SegmentSize: benchSize})
	}
	return ss
}

func messages(n int) []netio.Message {
	ms := make([]netio.Message, n)
	for i := range ms {
		ms[i].Buf = make([]byte, 1500)
	}
	return ms
}

func drain(b *testing.B, receivers []netio.UDP, ms []netio.Message) (packets int, took time.Duration) {
	b.Helper()
	start := time.Now()
	for _, r := range receivers {
		for {
			n, err := r.ReadBatch(ms)
			if err != nil {
				b.Fatal(err)
			}
			packets += n
			if n == 0 {
				break
			}
		}
	}
	return packets, time.Since(start)
}

// BenchmarkWrite shows what a packet costs to send: one call a packet, one call
// for many, and segments.
func BenchmarkWrite(b *testing.B) {
	run := func(name string, perSend, perCall int) {
		b.Run(name, func(b *testing.B) {
			u := newUDP(b, loopback4, netio.UDPOptions{})
			if perSend > u.MaxSegments() {
				b.Skip("this kernel has no UDP_SEGMENT")
			}
			var receivers []netio.UDP
			for range 4 {
				receivers = append(receivers, newUDP(b, loopback4, netio.UDPOptions{}))
			}
			ss, ms := benchSends(receivers, perSend), messages(netio.MaxReceive)
			b.ReportAllocs()
			var sending time.Duration
			arrived := 0
			for b.Loop() {
				start := time.Now()
				for rest := ss; len(rest) > 0; {
					n, err := u.WriteBatch(rest[:min(perCall, len(rest))])
					if err != nil {
						b.Fatal(err)
					}
					rest = rest[n:]
				}
				sending += time.Since(start)
				n, _ := drain(b, receivers, ms)
				arrived += n
			}
			total := float64(b.N * benchPackets)
			b.ReportMetric(float64(sending.Nanoseconds())/total, "ns/packet")
			b.ReportMetric(100*(1-float64(arrived)/total), "%lost")
		})
	}
	run("one_call_a_packet", 1, 1)
	for _, segments := range []int{1, 2, 4, 8, 16} {
		run(fmt.Sprintf("segments_%d", segments), segments, benchPackets)
	}
}

// BenchmarkWriteStandardLibrary is the plain way, for comparison.
func BenchmarkWriteStandardLibrary(b *testing.B) {
	conn := bind(b, loopback4)
	if err := conn.SetDeadline(time.Time{}); err != nil {
		b.Fatal(err)
	}
	receivers := []netio.UDP{newUDP(b, loopback4, netio.UDPOptions{})}
	p, ms := make([]byte, benchSize), messages(netio.MaxReceive)
	to := receivers[0].LocalAddr()
	var sending time.Duration
	for b.Loop() {
		start := time.Now()
		for range benchPackets {
			if _, err := conn.WriteToUDPAddrPort(p, to); err != nil {
				b.Fatal(err)
			}
		}
		sending += time.Since(start)
		drain(b, receivers, ms)
	}
	b.ReportMetric(float64(sending.Nanoseconds())/float64(b.N*benchPackets), "ns/packet")
}

// BenchmarkRead shows what a datagram costs to receive, and what the kernel's
// arrival time adds.
func BenchmarkRead(b *testing.B) {
	for _, plain := range []bool{false, true} {
		for _, batch := range []int{1, 8, netio.MaxReceive} {
			b.Run(fmt.Sprintf("timestamps=%v/batch_%d", !plain, batch), func(b *testing.B) {
				u := newUDP(b, loopback4, netio.UDPOptions{})
				r := []netio.UDP{newUDP(b, loopback4, netio.UDPOptions{NoTimestamps: plain})}
				ss, ms := benchSends(r, 16), messages(batch)
				b.ReportAllocs()
				var reading time.Duration
				packets := 0
				for b.Loop() {
					if _, err := u.WriteBatch(ss); err != nil {
						b.Fatal(err)
					}
					n, took := drain(b, r, ms)
					packets += n
					reading += took
				}
				b.ReportMetric(float64(reading.Nanoseconds())/float64(packets), "ns/packet")
			})
		}
	}
}

// BenchmarkWake is what announcing work to the loop costs when it is busy, and
// what a round through the kernel costs.
func BenchmarkWake(b *testing.B) {
	b.Run("coalesced", func(b *testing.B) {
		p := newPoller(b)
		p.Wake()
		for b.Loop() {
			p.Wake()
		}
	})
	b.Run("with_wait", func(b *testing.B) {
		p := newPoller(b)
		for b.Loop() {
			p.Wake()
			if r, err := p.Wait(-1); err != nil || !r.Woken {
				b.Fatal(r, err)
			}
		}
	})
}

// BenchmarkTCPWrite is one batch of frames to one connection.
func BenchmarkTCPWrite(b *testing.B) {
	for _, together := range []int{1, 8} {
		b.Run(fmt.Sprintf("frames_%d", together), func(b *testing.B) {
			s := newServer(b, netip.MustParseAddr("127.0.0.1"), netio.TCPOptions{})
			client := s.dial()
			if err := client.SetDeadline(time.Time{}); err != nil {
				b.Fatal(err)
			}
			c := s.accept()
			batch := sameSize(together, benchSize)
			buf := make([]byte, together*(benchSize+2))
			b.ReportAllocs()
			var sending time.Duration
			for b.Loop() {
				start := time.Now()
				if err := c.WriteFrames(batch); err != nil {
					b.Fatal(err)
				}
				sending += time.Since(start)
				for n := 0; n < len(buf); {
					k, err := client.Read(buf[n:])
					if err != nil {
						b.Fatal(err)
					}
					n += k
				}
			}
			b.ReportMetric(float64(sending.Nanoseconds())/float64(b.N*together), "ns/packet")
		})
	}
}

// BenchmarkSource shows what naming the source address adds to a packet of a wildcard
// socket, and what being told the destination does.
func BenchmarkSource(b *testing.B) {
	for _, segments := range []int{1, 8} {
		for _, named := range []bool{false, true} {
			b.Run(fmt.Sprintf("segments_%d/named=%v", segments, named), func(b *testing.B) {
				u := newUDP(b, netip.IPv4Unspecified(), netio.UDPOptions{})
				receivers := []netio.UDP{newUDP(b, loopback4, netio.UDPOptions{})}
				ss, ms := benchSends(receivers, segments), messages(netio.MaxReceive)
				for i := range ss {
					if named {
						ss[i].Local = netio.LocalOf(loopback4)
					}
				}
				b.ReportAllocs()
				var sending time.Duration
				for b.Loop() {
					start := time.Now()
					if _, err := u.WriteBatch(ss); err != nil {
						b.Fatal(err)
					}
					sending += time.Since(start)
					drain(b, receivers, ms)
				}
				b.ReportMetric(float64(sending.Nanoseconds())/float64(b.N*benchPackets), "ns/packet")
			})
		}
	}
	for _, at := range []netip.Addr{loopback4, netip.IPv4Unspecified()} {
		b.Run(fmt.Sprintf("read/told=%v", at.IsUnspecified()), func(b *testing.B) {
			u := newUDP(b, loopback4, netio.UDPOptions{})
			r := []netio.UDP{newUDP(b, at, netio.UDPOptions{})}
			ss, ms := benchSends(r, 16), messages(netio.MaxReceive)
			for i := range ss {
				ss[i].Addr = netip.AddrPortFrom(loopback4, ss[i].Addr.Port())
			}
			var reading time.Duration
			packets := 0
			for b.Loop() {
				if _, err := u.WriteBatch(ss); err != nil {
					b.Fatal(err)
				}
				n, took := drain(b, r, ms)
				packets += n
				reading += took
			}
			b.ReportMetric(float64(reading.Nanoseconds())/float64(packets), "ns/packet")
		})
	}
}
