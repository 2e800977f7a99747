package netio

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// connectedPeers is how many clients the benchmarks of connected sockets have.
const connectedPeers = 100

// BenchmarkConnected compares, in turns, sending the same packets over one
// unconnected socket and over one connected socket a client, all on one port.
// The README's Architecture says what was chosen by it.
func BenchmarkConnected(b *testing.B) {
	for _, segments := range []bool{true, false} {
		for _, packets := range []int{1, 4, 16} {
			b.Run(fmt.Sprintf("segments=%v/packets=%d", segments, packets), func(b *testing.B) {
				sink := benchSocket(b, netip.MustParseAddrPort("0.0.0.0:0"), netip.AddrPort{})
				one := benchSocket(b, netip.MustParseAddrPort("127.0.0.1:0"), netip.AddrPort{})
				var sends []Send
				var connected []*udpSocket
				for i := range connectedPeers {
					to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}), sink.local.Port())
					s := toPort(0, packets)
					s.Addr = to
					for k := range s.Packets {
						s.Packets[k] = make([]byte, 170)
					}
					s.SegmentSize = 170
					sends = append(sends, s)
					connected = append(connected, benchSocket(b, one.local, to))
				}
				for _, u := range append(connected, one) {
					if !segments {
						u.segments = 1
					}
				}
				plain, dear := compare(b, sink, func() {
					write(one, sends)
				}, func() {
					for i, u := range connected {
						write(u, sends[i:i+1])
					}
				})
				total := float64(b.N * connectedPeers * packets)
				b.ReportMetric(plain/total, "unconnected-cpu-ns/packet")
				b.ReportMetric(dear/total, "connected-cpu-ns/packet")
				b.ReportMetric(dear/plain, "connected/unconnected")
			})
		}
	}
}

// BenchmarkConnectedRead compares, in turns, waiting for and reading one packet of
// each of some speakers from one socket and from a socket a client.
func BenchmarkConnectedRead(b *testing.B) {
	for _, speakers := range []int{1, 10, 50} {
		b.Run(fmt.Sprintf("speakers=%d", speakers), func(b *testing.B) {
			one := benchSocket(b, netip.MustParseAddrPort("127.0.0.1:0"), netip.AddrPort{})
			shared := benchSocket(b, netip.MustParseAddrPort("127.0.0.1:0"), netip.AddrPort{})
			var peers, connected []*udpSocket
			var fds []unix.PollFd
			for range 2 * connectedPeers {
				peer := benchSocket(b, netip.MustParseAddrPort("127.0.0.1:0"), netip.AddrPort{})
				u := benchSocket(b, shared.local, peer.local)
				peers, connected = append(peers, peer), append(connected, u)
				fds = append(fds, unix.PollFd{Fd: int32(u.fd), Events: unix.POLLIN})
			}
			oneFD := []unix.PollFd{{Fd: int32(one.fd), Events: unix.POLLIN}}
			ms := benchMessages()
			speak := func(to netip.AddrPort) {
				s := toPort(0, 1)
				s.Addr = to
				for i := range speakers {
					write(peers[i*len(peers)/speakers], []Send{s})
				}
			}
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var plain, dear int64
			for b.Loop() {
				speak(one.local)
				began := threadNanos()
				for read := 0; read < speakers; {
					poll(oneFD)
					read += drain(one, ms)
				}
				plain += threadNanos() - began
				speak(shared.local)
				began = threadNanos()
				for read := 0; read < speakers; {
					poll(fds)
					for i := range fds {
						if fds[i].Revents != 0 {
							read += drain(connected[i], ms)
						}
					}
				}
				dear += threadNanos() - began
			}
			total := float64(b.N * speakers)
			b.ReportMetric(float64(plain)/total, "one-cpu-ns/packet")
			b.ReportMetric(float64(dear)/total, "connected-cpu-ns/packet")
			b.ReportMetric(float64(dear)/float64(plain), "connected/one")
		})
	}
}

// compare runs both ways in turns and returns the thread's CPU time of each.
func compare(b *testing.B, sink *udpSocket, plain, connected func()) (plainNanos, connectedNanos float64) {
	b.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ms := benchMessages()
	var took [2]int64
	for b.Loop() {
		for i, send := range []func(){plain, connected} {
			began := threadNanos()
			send()
			took[i] += threadNanos() - began
			drain(sink, ms)
		}
	}
	return float64(took[0]), float64(took[1])
}

// benchSocket opens a socket whose port others may share, connected if to is valid.
func benchSocket(b *testing.B, local, to netip.AddrPort) *udpSocket {
	b.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	for _, option := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
			b.Fatal(err)
		}
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) // drops cost less than deliveries
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: local.Addr().As4(), Port: int(local.Port())}); err != nil {
		b.Fatal(err)
	}
	if to.IsValid() {
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
			b.Fatal(err)
		}
	}
	sock, err := NewUDP(fd, UDPOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = sock.Close() })
	u, ok := sock.(*udpSocket)
	if !ok {
		b.Fatalf("%T", sock)
	}
	for i := range u.send {
		if to.IsValid() { // with a name the kernel would look the route up all the same
			u.send[i].hdr.Name, u.send[i].hdr.Namelen = nil, 0
		}
	}
	return u
}

func benchMessages() []Message {
	ms := make([]Message, MaxReceive)
	for i := range ms {
		ms[i].Buf = make([]byte, 1500)
	}
	return ms
}

// The following run within what is measured: a call of b.Helper would weigh there.

func write(u *udpSocket, ss []Send) {
	if n, err := u.WriteBatch(ss); n != len(ss) || err != nil || u.counters.Refused > 0 {
		panic(fmt.Sprint(n, err, u.counters.LastError))
	}
}

// drain reads until a batch is not full.
func drain(u *udpSocket, ms []Message) (packets int) {
	for {
		n, err := u.ReadBatch(ms)
		if err != nil {
			panic(err)
		}
		if packets += n; n < len(ms) {
			return packets
		}
	}
}

func poll(fds []unix.PollFd) {
	if _, err := unix.Ppoll(fds, nil, nil); err != nil {
		panic(err)
	}
}

func threadNanos() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return ts.Nano()
}
