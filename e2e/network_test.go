package e2e

import (
	"fmt"
	"testing"
	"time"
)

// TestRestrictedNetworks runs calls where only one way is open.
func TestRestrictedNetworks(t *testing.T) {
	for _, row := range []struct {
		name, families, host, address string
		rules                         []string
		protocol                      string
	}{
		{"TCP only", "46", spaceIPv4, spaceIPv4, []string{"meta l4proto udp drop"}, "tcp"},
		{"IPv6 only", "6", spaceIPv6, spaceIPv6, []string{"meta nfproto ipv4 iifname != lo drop"}, "udp"},
		{"TCP over IPv6 only", "6", spaceIPv6, spaceIPv6, []string{"meta l4proto udp drop"}, "tcp"},
	} {
		t.Run(row.name, func(t *testing.T) {
			space := newNamespace(t, row.families, row.rules...)
			browser := lab.own(t, chromium, space)
			s := startServer(t, settings{space: space, host: row.host, env: map[string]string{"SFU_IPV4": spaceIPv4, "SFU_IPV6": spaceIPv6}})
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
