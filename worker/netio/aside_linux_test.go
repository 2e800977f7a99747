package netio_test

import (
	"net/netip"
	"testing"

	"github.com/dspeak/sfu/worker/netio"
)

// TestAside: the second socket receives STUN and RTCP, and the first everything again
// when it is closed, however often.
func TestAside(t *testing.T) {
	for name, addr := range map[string]netip.Addr{"IPv4": loopback4, "IPv6": loopback6} {
		t.Run(name, func(t *testing.T) {
			u := newUDP(t, addr, netio.UDPOptions{})
			client := bind(t, addr)
			for range 3 {
				aside, err := netio.OpenAside(u, netio.UDPOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if aside.LocalAddr() != u.LocalAddr() {
					t.Fatalf("on %s", aside.LocalAddr())
				}
				for _, b := range [][]byte{{0, 1}, {3}, {0x80, 200, 1}, {0x9f, 192}, {0xbf, 223}} {
					mustGet(t, client, aside, u, b)
				}
				for _, b := range [][]byte{{4}, {22, 254}, {0x80}, {0x80, 111, 1}, {0x80, 191}, {0x80, 224}, {0xc0, 200}, {}} {
					mustGet(t, client, u, aside, b)
				}
				if err := aside.Close(); err != nil {
					t.Fatal(err)
				}
				mustGet(t, client, u, nil, []byte{0, 1})
			}
		})
	}
}

// mustGet sends a datagram, which one socket must get and not the other.
func mustGet(t *testing.T, client interface {
	WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error)
}, right, wrong netio.UDP, b []byte,
) {
	t.Helper()
	if _, err := client.WriteToUDPAddrPort(b, right.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	ms := []netio.Message{{Buf: make([]byte, 10)}}
	waitReadable(t, right)
	if n, err := right.ReadBatch(ms); n != 1 || err != nil || string(ms[0].Buf[:ms[0].N]) != string(b) {
		t.Fatalf("%x: got %d, %v", b, n, err)
	}
	if wrong == nil {
		return
	}
	if n, err := wrong.ReadBatch(ms); n != 0 || err != nil {
		t.Fatalf("%x came twice: %v", b, err)
	}
}

func waitReadable(t *testing.T, u netio.UDP) {
	t.Helper()
	p := newPoller(t)
	if _, err := p.AddUDP(u); err != nil {
		t.Fatal(err)
	}
	for {
		r, err := p.Wait(waitLimit)
		if err != nil {
			t.Fatal(err)
		}
		if r.Readable != 0 {
			return
		}
	}
}
