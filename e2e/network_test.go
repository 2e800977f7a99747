package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestRestrictedNetworks: a call in networks that let only some packets through. A browser
// serves all networks of the same address families.
func TestRestrictedNetworks(t *testing.T) {
	oneWay := fmt.Sprintf("udp sport %d-%d drop", spaceMedia, spaceMedia+9) // the client's checks arrive but never succeed
	type network struct{ name, address, rule, protocol string }
	onlyTCP := network{"TCP only", spaceIPv4, "meta l4proto udp drop", "tcp"}
	onlyIPv6 := network{"IPv6 only", spaceIPv6, "meta nfproto ipv4 iifname != lo drop", "udp"}
	onlyTCPv6 := network{"TCP over IPv6 only", spaceIPv6, "meta l4proto udp drop", "tcp"}
	oneWayUDP := network{"UDP gets out but not in", spaceIPv4, oneWay, "tcp"}
	oneWayUDPv6 := network{"UDP gets out but not in, IPv6", spaceIPv6, oneWay, "tcp"}
	for _, machine := range []struct {
		kind, families string
		networks       []network
	}{
		{chromium, "46", []network{onlyTCP, oneWayUDP, oneWayUDPv6}},
		{chromium, "6", []network{onlyIPv6, onlyTCPv6}},
		// Firefox gathers no candidate on a machine without an IPv4 address.
		{firefox, "46", []network{onlyTCP, onlyIPv6, onlyTCPv6, oneWayUDP, oneWayUDPv6}},
	} {
		t.Run(machine.kind+" with IPv"+strings.Join(strings.Split(machine.families, ""), " and IPv"), func(t *testing.T) {
			space := newNamespace(t, machine.families)
			browser := lab.own(t, machine.kind, space)
			for _, row := range machine.networks {
				t.Run(row.name, func(t *testing.T) {
					space.filter(t, row.rule)
					s := startServer(t, settings{space: space, host: row.address, env: map[string]string{
						"SFU_IPV4": spaceIPv4, "SFU_IPV6": spaceIPv6, "SFU_PORT": fmt.Sprint(spaceMedia),
					}})
					sc := newScene(t, s, browser, newest)
					a, b := sc.join(t, "ann", nil), sc.join(t, "bob", nil)
					a.hearsExactly(t, b)
					b.hearsExactly(t, a)
					for _, u := range sc.users {
						u.uses(t, row.protocol, row.address)
						u.untroubled(t)
					}
				})
			}
		})
	}
}

// uses waits until the browser says which way its transports took.
func (u *user) uses(t *testing.T, protocol, address string) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		for name, got := range u.transports(t) {
			if got.State != "connected" || got.RemoteProtocol != protocol || got.RemoteAddress != address {
				return fmt.Errorf("%s transport of %s is %s, %s to %s", name, u.name, got.State, got.RemoteProtocol, got.RemoteAddress)
			}
		}
		return nil
	})
}

// TestServerWithSeveralAddresses: a client reaches the address that it asks, which the
// kernel would not have answered from, whether the media sockets are bound to all
// addresses or to some; and a worker's successor sends from it, too.
func TestServerWithSeveralAddresses(t *testing.T) {
	for _, kind := range []string{chromium, firefox} {
		t.Run(kind, func(t *testing.T) {
			space := newNamespace(t, "46", "meta l4proto tcp tcp dport "+fmt.Sprintf("%d-%d drop", spaceMedia, spaceMedia+9))
			space.ip(t, "addr add "+secondIPv4+"/24 dev v0")
			space.ip(t, "addr add "+thirdIPv4+"/24 dev v0")
			space.ip(t, "addr add "+secondIPv6+"/64 dev v0 nodad")
			browser := lab.own(t, kind, space)
			for name, row := range map[string]struct{ host, address, bind string }{
				"IPv4":        {spaceIPv4, secondIPv4, ""},
				"IPv6":        {spaceIPv6, secondIPv6, ""},
				"IPv4, bound": {spaceIPv4, secondIPv4, secondIPv4 + "," + thirdIPv4},
				"IPv6, bound": {spaceIPv6, secondIPv6, secondIPv6},
			} {
				t.Run(name, func(t *testing.T) {
					s := startServer(t, settings{space: space, host: row.host, env: map[string]string{
						"SFU_IPV4": secondIPv4, "SFU_IPV6": secondIPv6, "SFU_PORT": fmt.Sprint(spaceMedia), "DSPEAK_MEDIA_BIND": row.bind,
					}})
					hearAt(t, s, browser, row.address)
				})
			}
			t.Run("all are announced", func(t *testing.T) { // media come from the one that a client chose
				s := startServer(t, settings{space: space, host: spaceIPv4, env: map[string]string{
					"SFU_IPV4": "", "SFU_IPV6": "", "SFU_PORT": fmt.Sprint(spaceMedia), "DSPEAK_MEDIA_BIND": secondIPv4 + "," + spaceIPv4,
				}})
				sc := newScene(t, s, browser, newest)
				a, b := sc.join(t, "ann", nil), sc.join(t, "bob", nil)
				a.hearsExactly(t, b)
				b.hearsExactly(t, a)
			})
		})
	}
}

// hearAt has two users hear each other by an address of the server, before and after its
// worker is killed.
func hearAt(t *testing.T, s *server, browser *browser, address string) {
	t.Helper()
	sc := newScene(t, s, browser, newest)
	a, b := sc.join(t, "ann", nil), sc.join(t, "bob", nil)
	hear := func() {
		t.Helper()
		a.hearsExactly(t, b)
		b.hearsExactly(t, a)
		for _, u := range sc.users {
			u.uses(t, "udp", address)
		}
	}
	hear()
	s.killWorker(t)
	hear()
	for _, u := range sc.users {
		u.untroubled(t)
	}
}

// TestPortOfANATChanges: the call goes on when the clients' packets come from other ports
// all at once, and nothing reaches them on the old ones.
func TestPortOfANATChanges(t *testing.T) {
	for _, kind := range []string{chromium, firefox} {
		t.Run(kind, func(t *testing.T) {
			own := ownIPv4(t)
			if own == "" {
				t.Skip("NOT TESTED: the machine has no address beside loopback, which Firefox needs")
			}
			nat := newNAT(t, own)
			s := startServer(t, settings{env: map[string]string{
				"SFU_IPV4": own, "SFU_IPV4_PORT": fmt.Sprint(nat.port()), "SFU_IPV6": "",
			}})
			nat.forward(t, own, s.media)
			sc := newScene(t, s, lab.shared(t, kind), newest)
			a, b := sc.join(t, "ann", nil), sc.join(t, "bob", nil)
			c := sc.join(t, "cid", map[string]any{"listenOnly": true})
			for range 2 {
				a.hearsExactly(t, b)
				b.hearsExactly(t, a)
				c.hearsExactly(t, a, b)
				nat.changePorts()
				before := c.inbound(t)
				eventually(t, 12*time.Second, func() error {
					now := c.inbound(t)
					for name := range before {
						if now[name].Packets < before[name].Packets+50 {
							return fmt.Errorf("cid has %.0f packets of %s, then %.0f", before[name].Packets, name, now[name].Packets)
						}
					}
					return nil
				})
			}
			a.hearsExactly(t, b)
			b.hearsExactly(t, a)
			c.hearsExactly(t, a, b)
			for _, u := range sc.users {
				u.untroubled(t)
			}
		})
	}
}

// TestManyClientsOverTCP: a school's worth of clients behind one address hears over TCP.
func TestManyClientsOverTCP(t *testing.T) {
	const many = 80
	s := startServer(t, settings{env: map[string]string{"SFU_HEARTBEAT_MISS_THRESHOLD_MS": "600000"}}) // pion's users say nothing
	speaker := s.enterPion(t, "speaker", "school", pionOptions{tcp: true})
	speaker.speak(t)
	listeners := make([]*pionUser, many)
	for i := range listeners {
		listeners[i] = s.enterPion(t, fmt.Sprintf("listener-%d", i), "school", pionOptions{tcp: true})
		listeners[i].hear(t, speaker.producer)
	}
	for _, l := range listeners {
		eventually(t, hearTimeout, l.hearing(10))
	}
}

// TestBoundAddressesOutliveProcesses: sockets of named addresses stay through the deaths
// of the supervisor, of a worker, and of both, when a service manager holds them.
func TestBoundAddressesOutliveProcesses(t *testing.T) {
	m := newManager(t)
	s := startServer(t, settings{manager: m, env: map[string]string{
		"SFU_IPV4": "127.0.0.2", "SFU_IPV6": "", "DSPEAK_MEDIA_BIND": "127.0.0.1,127.0.0.2",
	}})
	speaker, listener := s.enterPion(t, "ann", "bound", pionOptions{}), s.enterPion(t, "bob", "bound", pionOptions{})
	speaker.speak(t)
	listener.hear(t, speaker.producer)
	eventually(t, hearTimeout, listener.hearing(20))
	back := func() {
		t.Helper()
		s.again(t)
		speaker.comeBack(t, s)
		listener.comeBack(t, s)
		eventually(t, hearTimeout, listener.hearing(20))
	}
	s.kill(t)
	back()
	s.killWorker(t)
	eventually(t, hearTimeout, listener.hearing(20))
	worker := s.onlyWorker(t)
	if err := syscall.Kill(s.cmd.Process.Pid, syscall.SIGSTOP); err != nil { // it must not replace the worker first
		t.Fatal(err)
	}
	if err := syscall.Kill(int(worker.GetPid()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.kill(t)
	eventually(t, answerTimeout, gone(int(worker.GetPid())))
	back()
}
