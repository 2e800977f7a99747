//go:build linux

package netio_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/worker/netio"
)

func TestReadBatchReturnsDatagramsWithSenderAndArrival(t *testing.T) {
	for _, addr := range []netip.Addr{loopback4, loopback6} {
		t.Run(addr.String(), func(t *testing.T) {
			var count netio.Counters
			u := newUDP(t, addr, netio.UDPOptions{Counters: &count})
			peer := bind(t, addr)
			before := time.Now()
			const n = 40 // more than one batch
			for i := range n {
				if _, err := peer.WriteToUDPAddrPort(fmt.Appendf(nil, "datagram %d", i), u.LocalAddr()); err != nil {
					t.Fatal(err)
				}
			}
			got := readAll(t, u, n)
			for i, m := range got {
				if want := fmt.Sprintf("datagram %d", i); string(m.Buf[:m.N]) != want {
					t.Errorf("datagram %d is %q", i, m.Buf[:m.N])
				}
				if m.Addr != addrOf(peer) {
					t.Errorf("datagram %d from %v, want %v", i, m.Addr, addrOf(peer))
				}
				if at := time.Unix(0, m.ArrivalNanos); at.Before(before) || at.After(time.Now()) {
					t.Errorf("datagram %d arrived at %v", i, at)
				}
			}
			if count.ReceivedPackets != n || count.ReceivedBytes == 0 {
				t.Errorf("counters %+v", count)
			}
		})
	}
}

func TestReadBatchOfNothing(t *testing.T) {
	u := newUDP(t, loopback4, netio.UDPOptions{})
	if n, err := u.ReadBatch([]netio.Message{{Buf: make([]byte, 10)}}); n != 0 || err != nil {
		t.Errorf("empty socket: %d, %v", n, err)
	}
	if n, err := u.ReadBatch(nil); n != 0 || err != nil {
		t.Errorf("no messages: %d, %v", n, err)
	}
}

func TestNoTimestamps(t *testing.T) {
	u := newUDP(t, loopback4, netio.UDPOptions{NoTimestamps: true})
	peer := bind(t, loopback4)
	if _, err := peer.WriteToUDPAddrPort([]byte("x"), u.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, u, 1); got[0].ArrivalNanos != 0 {
		t.Errorf("arrival %d, want none", got[0].ArrivalNanos)
	}
}

func TestTruncatedDatagramIsDroppedAndKeepsItsBuffer(t *testing.T) {
	var count netio.Counters
	u := newUDP(t, loopback4, netio.UDPOptions{Counters: &count})
	peer := bind(t, loopback4)
	for _, size := range []int{4, 9, 8, 100, 3} {
		if _, err := peer.WriteToUDPAddrPort(bytes.Repeat([]byte{byte(size)}, size), u.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	ms := make([]netio.Message, 8)
	for i := range ms {
		ms[i].Buf = make([]byte, 8)
	}
	n, err := u.ReadBatch(ms) // loopback delivers at once
	if err != nil || n != 3 || count.Truncated != 2 {
		t.Fatalf("%d datagrams, %v, %d truncated", n, err, count.Truncated)
	}
	for i, size := range []int{4, 8, 3} {
		if ms[i].N != size || ms[i].Buf[0] != byte(size) {
			t.Errorf("datagram %d: %d bytes of %d", i, ms[i].N, ms[i].Buf[0])
		}
	}
	seen := map[*byte]bool{}
	for i := range ms {
		seen[&ms[i].Buf[0]] = true
	}
	if len(seen) != len(ms) {
		t.Errorf("%d buffers left of %d", len(seen), len(ms))
	}
}

func TestWriteBatchDeliversEveryPacketInOrder(t *testing.T) {
	cases := []struct {
		name string
		send netio.Send
	}{
		{"one packet", netio.Send{Packets: packets(100)}},
		{"one packet, size given", netio.Send{Packets: packets(100), SegmentSize: 100}},
		{"equal packets", netio.Send{Packets: sameSize(5, 120), SegmentSize: 120}},
		{"a shorter last one", netio.Send{Packets: packets(120, 120, 60), SegmentSize: 120}},
		{"the most that fits together", netio.Send{Packets: sameSize(16, 1000), SegmentSize: 1000}},
		{"more than fits together", netio.Send{Packets: sameSize(40, 170), SegmentSize: 170}},
		{"a shorter one in the middle", netio.Send{Packets: packets(120, 60, 120, 120), SegmentSize: 120}},
		{"a longer one in the middle", netio.Send{Packets: packets(120, 130, 120), SegmentSize: 120}},
		{"a wrong size", netio.Send{Packets: packets(120, 120), SegmentSize: 99}},
		{"no size", netio.Send{Packets: packets(120, 120)}},
		{"a negative size", netio.Send{Packets: packets(120, 120), SegmentSize: -1}},
		{"too many bytes for one message", netio.Send{Packets: sameSize(16, 4500), SegmentSize: 4500}},
		{"no packet", netio.Send{}},
	}
	for _, addr := range []netip.Addr{loopback4, loopback6} {
		for _, plain := range []bool{false, true} {
			for _, tc := range cases {
				t.Run(fmt.Sprintf("%v/plain=%v/%s", addr, plain, tc.name), func(t *testing.T) {
					var count netio.Counters
					u := newUDP(t, addr, netio.UDPOptions{NoOffload: plain, Counters: &count})
					peer := bind(t, addr)
					tc.send.Addr = addrOf(peer)
					last := netio.Send{Addr: addrOf(peer), Packets: packets(1)}
					if n, err := u.WriteBatch([]netio.Send{tc.send, last}); n != 2 || err != nil {
						t.Fatalf("WriteBatch: %d, %v", n, err)
					}
					buf := make([]byte, 1<<16)
					var bytesWanted uint64
					for i, p := range append(tc.send.Packets, last.Packets...) {
						n, from, err := peer.ReadFromUDPAddrPort(buf)
						if err != nil {
							t.Fatalf("packet %d: %v", i, err)
						}
						if !bytes.Equal(buf[:n], p) || from.Port() != u.LocalAddr().Port() {
							t.Errorf("packet %d has %d bytes from %v, want %d", i, n, from, len(p))
						}
						bytesWanted += uint64(len(p))
					}
					if want := uint64(len(tc.send.Packets) + 1); count.SentPackets != want || count.SentBytes != bytesWanted {
						t.Errorf("counted %d packets and %d bytes, want %d and %d",
							count.SentPackets, count.SentBytes, want, bytesWanted)
					}
				})
			}
		}
	}
}

func TestWriteBatchOfMoreSendsThanOneSystemCallTakes(t *testing.T) {
	u := newUDP(t, loopback4, netio.UDPOptions{})
	peers := []*peerCount{{conn: bind(t, loopback4)}, {conn: bind(t, loopback4)}, {conn: bind(t, loopback4)}}
	var sends []netio.Send
	const n = 300
	for i := range n {
		p := peers[i%len(peers)]
		p.want++
		sends = append(sends, netio.Send{Addr: addrOf(p.conn), Packets: packets(20)})
	}
	if done, err := u.WriteBatch(sends); done != n || err != nil {
		t.Fatalf("WriteBatch: %d, %v", done, err)
	}
	for _, p := range peers {
		p.readAll(t)
	}
}

func TestRefusedDestinationsAreSkippedAndCounted(t *testing.T) {
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("plain=%v", plain), func(t *testing.T) {
			var count netio.Counters
			u := newUDP(t, loopback4, netio.UDPOptions{NoOffload: plain, Counters: &count})
			peer := bind(t, loopback4)
			good := netio.Send{Addr: addrOf(peer), Packets: sameSize(3, 50), SegmentSize: 50}
			bad := func(addr string) netio.Send {
				return netio.Send{Addr: netip.MustParseAddrPort(addr), Packets: sameSize(3, 50), SegmentSize: 50}
			}
			// Another family, port 0 (EINVAL), no address.
			ss := []netio.Send{good, bad("[::1]:9"), good, bad("127.0.0.1:0"), good, {Packets: packets(1)}}
			n, err := u.WriteBatch(ss)
			if n != len(ss) || err != nil {
				t.Fatalf("WriteBatch: %d, %v", n, err)
			}
			if count.SentPackets != 9 || count.Refused != 7 || count.LastError == nil {
				t.Errorf("sent %d, refused %d (%v), want 9 and 7", count.SentPackets, count.Refused, count.LastError)
			}
			if count.OffloadDropped != 0 || (u.MaxSegments() > 1) == plain {
				t.Errorf("a bad destination changed the offload: %d segments", u.MaxSegments())
			}
			(&peerCount{conn: peer, want: 9}).readAll(t)
		})
	}
}

// peerCount is a receiver that expects a number of datagrams.
type peerCount struct {
	conn *net.UDPConn
	want int
}

func (p *peerCount) readAll(t *testing.T) {
	t.Helper()
	buf := make([]byte, 2048)
	for i := range p.want {
		if _, _, err := p.conn.ReadFromUDPAddrPort(buf); err != nil {
			t.Fatalf("datagram %d of %d: %v", i, p.want, err)
		}
	}
}

// A socket that sends without checksums takes no segments: a kernel that refuses
// the offload in use.
func TestRefusedOffloadIsDroppedAndEverythingArrives(t *testing.T) {
	var count netio.Counters
	u := newUDP(t, loopback4, netio.UDPOptions{Counters: &count})
	if u.MaxSegments() == 1 {
		t.Skip("this kernel has no UDP_SEGMENT")
	}
	if err := unix.SetsockoptInt(u.FD(), unix.SOL_SOCKET, unix.SO_NO_CHECK, 1); err != nil {
		t.Fatal(err)
	}
	peer := bind(t, loopback4)
	ss := []netio.Send{
		{Addr: addrOf(peer), Packets: packets(10)},
		{Addr: addrOf(peer), Packets: sameSize(4, 50), SegmentSize: 50},
		{Addr: addrOf(peer), Packets: sameSize(3, 60), SegmentSize: 60},
	}
	if n, err := u.WriteBatch(ss); n != len(ss) || err != nil {
		t.Fatalf("WriteBatch: %d, %v", n, err)
	}
	buf := make([]byte, 2048)
	for i, want := range []int{10, 50, 50, 50, 50, 60, 60, 60} {
		if n, _, err := peer.ReadFromUDPAddrPort(buf); n != want || err != nil {
			t.Errorf("datagram %d: %d bytes, %v, want %d", i, n, err, want)
		}
	}
	if u.MaxSegments() != 1 || count.OffloadDropped != 1 || count.SentPackets != 8 || count.Refused != 0 {
		t.Errorf("%d segments, counters %+v", u.MaxSegments(), count)
	}
	if !errors.Is(count.LastError, unix.EINVAL) {
		t.Errorf("last error %v", count.LastError)
	}
}

func TestMaxSegments(t *testing.T) {
	if n := newUDP(t, loopback4, netio.UDPOptions{NoOffload: true}).MaxSegments(); n != 1 {
		t.Errorf("%d segments without offload", n)
	}
	if n := newUDP(t, loopback4, netio.UDPOptions{}).MaxSegments(); n != netio.MaxPackets {
		t.Logf("this kernel has no UDP_SEGMENT: %d", n)
	}
}

func TestNewUDPRefusesWhatIsNoSocket(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if _, err := netio.NewUDP(int(file.Fd()), netio.UDPOptions{}); err == nil {
		t.Error("no error for /dev/null")
	}
	if _, err := netio.NewUDP(-1, netio.UDPOptions{}); err == nil {
		t.Error("no error for -1")
	}
}

func TestCloseTwiceAndUseAfter(t *testing.T) {
	u := newUDP(t, loopback4, netio.UDPOptions{})
	if err := u.Close(); err != nil {
		t.Error(err)
	}
	if err := u.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if _, err := u.ReadBatch([]netio.Message{{Buf: make([]byte, 10)}}); err == nil {
		t.Error("read from a closed socket")
	}
}
