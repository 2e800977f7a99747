//go:build unix

package netio_test

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dspeak/sfu/worker/netio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// waitLimit is how long a test waits for what must happen.
const waitLimit = 10 * time.Second

var (
	loopback4 = netip.MustParseAddr("127.0.0.1")
	loopback6 = netip.MustParseAddr("::1")
)

// bind opens a UDP socket of the standard library.
func bind(tb testing.TB, addr netip.Addr) *net.UDPConn {
	tb.Helper()
	network := "udp4"
	if addr.Is6() {
		network = "udp6"
	}
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		if addr.Is6() {
			tb.Skipf("no IPv6 here: %v", err)
		}
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(waitLimit)); err != nil {
		tb.Fatal(err)
	}
	return conn
}

func addrOf(conn *net.UDPConn) netip.AddrPort {
	addr, _ := netip.ParseAddrPort(conn.LocalAddr().String())
	return addr
}

// newUDP returns the socket under test.
func newUDP(tb testing.TB, addr netip.Addr, opts netio.UDPOptions) netio.UDP {
	tb.Helper()
	file, err := bind(tb, addr).File()
	if err != nil {
		tb.Fatal(err)
	}
	return wrapUDP(tb, file, opts)
}

func wrapUDP(tb testing.TB, file *os.File, opts netio.UDPOptions) netio.UDP {
	tb.Helper()
	u, err := netio.NewUDP(int(file.Fd()), opts)
	if err != nil {
		tb.Fatal(err)
	}
	if err := file.Close(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = u.Close() })
	return u
}

func newPoller(tb testing.TB) *netio.Poller {
	tb.Helper()
	p, err := netio.NewPoller()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = p.Close() })
	return p
}

// waitFor polls until ok says that the wanted thing happened.
func waitFor(tb testing.TB, p *netio.Poller, what string, ok func(netio.Ready) bool) {
	tb.Helper()
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); {
		r, err := p.Wait(50 * time.Millisecond)
		if err != nil {
			tb.Fatal(err)
		}
		if ok(r) {
			return
		}
	}
	tb.Fatalf("no %s within %v", what, waitLimit)
}

// readAll reads until n datagrams are there.
func readAll(tb testing.TB, u netio.UDP, n int) []netio.Message {
	tb.Helper()
	p := newPoller(tb)
	if _, err := p.AddUDP(u); err != nil {
		tb.Fatal(err)
	}
	var got []netio.Message
	waitFor(tb, p, "datagrams", func(netio.Ready) bool {
		ms := make([]netio.Message, netio.MaxReceive)
		for i := range ms {
			ms[i].Buf = make([]byte, 2048)
		}
		k, err := u.ReadBatch(ms)
		if err != nil {
			tb.Fatal(err)
		}
		got = append(got, ms[:k]...)
		return len(got) >= n
	})
	return got
}

func packets(sizes ...int) [][]byte {
	out := make([][]byte, 0, len(sizes))
	for i, size := range sizes {
		out = append(out, bytes.Repeat([]byte{byte(i + 1)}, size))
	}
	return out
}

func sameSize(n, size int) [][]byte {
	sizes := make([]int, n)
	for i := range sizes {
		sizes[i] = size
	}
	return packets(sizes...)
}
