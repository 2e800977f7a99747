package netio_test

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/dspeak/sfu/worker/netio"
)

// ask sends to a socket's port at one of the machine's addresses and returns what came
// of it on the socket, and the asking socket.
func ask(t *testing.T, u netio.UDP, at netip.Addr) (netio.Message, *net.UDPConn) {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, u.LocalAddr().Port())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	return readOne(t, u), conn
}

func readOne(t *testing.T, u netio.UDP) netio.Message {
	t.Helper()
	ms := []netio.Message{{Buf: make([]byte, 1500)}}
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if n, err := u.ReadBatch(ms); err != nil || n == 1 {
			if err != nil {
				t.Fatal(err)
			}
			return ms[0]
		}
	}
	t.Fatal("nothing arrived")
	return netio.Message{}
}

// hears waits for so many datagrams on a connected socket, which takes none from any
// other address than the one that it asked.
func hears(t *testing.T, conn *net.UDPConn, n int) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(waitLimit)); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if _, err := conn.Read(make([]byte, 1500)); err != nil {
			t.Fatalf("answer %d of %d: %v", i+1, n, err)
		}
	}
}

func TestAnswersComeFromTheAddressThatWasAsked(t *testing.T) {
	var count netio.Counters
	u := newUDP(t, netip.IPv4Unspecified(), netio.UDPOptions{Counters: &count})
	for _, at := range []string{"127.0.0.1", "127.0.0.2", "127.9.8.7"} {
		want := netip.MustParseAddr(at)
		m, conn := ask(t, u, want)
		if m.Local.Addr() != want || m.ArrivalNanos == 0 {
			t.Fatalf("asked %s, noticed %s at %d", want, m.Local.Addr(), m.ArrivalNanos)
		}
		long := bytes.Repeat([]byte{1}, 200)
		ss := []netio.Send{
			{Addr: m.Addr, Local: m.Local, Packets: [][]byte{[]byte("one")}},
			{Addr: m.Addr, Local: m.Local, Packets: [][]byte{long, long, long[:50]}, SegmentSize: len(long)},
		}
		if n, err := u.WriteBatch(ss); n != len(ss) || err != nil {
			t.Fatalf("write: %d, %v", n, err)
		}
		hears(t, conn, 4)
	}
	if count.Refused != 0 || count.OffloadDropped != 0 {
		t.Errorf("counters %+v", count)
	}
}

// TestManyLocalsInOneBatch mixes sources, and sends without one, in one call.
func TestManyLocalsInOneBatch(t *testing.T) {
	u := newUDP(t, netip.IPv4Unspecified(), netio.UDPOptions{})
	var ss []netio.Send
	var conns []*net.UDPConn
	for i := range 60 {
		m, conn := ask(t, u, netip.AddrFrom4([4]byte{127, 0, 1, byte(1 + i)}))
		ss = append(ss, netio.Send{Addr: m.Addr, Local: m.Local, Packets: [][]byte{{1}, {2}}, SegmentSize: 1})
		conns = append(conns, conn)
	}
	m, conn := ask(t, u, loopback4)
	ss = append(ss, netio.Send{Addr: m.Addr, Packets: [][]byte{{1}}}, netio.Send{Addr: m.Addr, Packets: [][]byte{{1}}})
	if n, err := u.WriteBatch(ss); n != len(ss) || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
	for _, c := range append(conns, conn) {
		hears(t, c, 2)
	}
}

func TestBoundSocketNeedsNoLocal(t *testing.T) {
	for _, addr := range []netip.Addr{loopback4, loopback6} {
		u := newUDP(t, addr, netio.UDPOptions{})
		m, conn := ask(t, u, addr)
		if m.Local.Addr() != addr {
			t.Errorf("asked %s, noticed %s", addr, m.Local.Addr())
		}
		if n, err := u.WriteBatch([]netio.Send{{Addr: m.Addr, Local: m.Local, Packets: [][]byte{{1}}}}); n != 1 || err != nil {
			t.Fatalf("write: %d, %v", n, err)
		}
		hears(t, conn, 1)
	}
}

func TestLocalOfIPv6(t *testing.T) {
	u := newUDP(t, netip.IPv6Unspecified(), netio.UDPOptions{})
	m, conn := ask(t, u, loopback6)
	if m.Local.Addr() != loopback6 {
		t.Fatalf("asked %s, noticed %s", loopback6, m.Local.Addr())
	}
	if again := netio.LocalFrom(m.Local.Parts()); again != m.Local || netio.LocalOf(loopback6) != m.Local {
		t.Errorf("%v is not %v", again, m.Local)
	}
	packets := [][]byte{{1, 2}, {3, 4}, {5}}
	if n, err := u.WriteBatch([]netio.Send{{Addr: m.Addr, Local: m.Local, Packets: packets, SegmentSize: 2}}); n != 1 || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
	hears(t, conn, 3)
}

// TestLostSourceAddress: only the paths with the lost address suffer, and the offload
// stays.
func TestLostSourceAddress(t *testing.T) {
	for _, row := range []struct{ bound, lost netip.Addr }{
		{netip.IPv4Unspecified(), netip.MustParseAddr("192.0.2.7")},
		{netip.IPv6Unspecified(), netip.MustParseAddr("2001:db8::7")},
	} {
		var count netio.Counters
		u := newUDP(t, row.bound, netio.UDPOptions{Counters: &count})
		loopback := loopback4
		if row.bound.Is6() {
			loopback = loopback6
		}
		m, conn := ask(t, u, loopback)
		segments := u.MaxSegments()
		packets := func() [][]byte { return [][]byte{{1, 2}, {3, 4}, {5, 6}} }
		lost := netio.Send{Addr: m.Addr, Local: netio.LocalOf(row.lost), Packets: packets(), SegmentSize: 2}
		alive := netio.Send{Addr: m.Addr, Local: m.Local, Packets: packets(), SegmentSize: 2}
		for range 3 {
			if n, err := u.WriteBatch([]netio.Send{alive, lost, alive}); n != 3 || err != nil {
				t.Fatalf("write: %d, %v", n, err)
			}
			hears(t, conn, 6)
		}
		if count.Refused != 9 || count.SentPackets != 18 || count.OffloadDropped != 0 || u.MaxSegments() != segments {
			t.Errorf("%s: counters %+v, %d segments", row.bound, count, u.MaxSegments())
		}
	}
}
