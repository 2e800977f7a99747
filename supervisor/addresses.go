package supervisor

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/dspeak/sfu/internal/config"
	"github.com/dspeak/sfu/internal/ident"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/signaling"
)

// maxAddresses bounds what is announced in one family.
const maxAddresses = 8

// addresses knows under which literal addresses clients reach the workers. A family is
// announced when a media socket of it is bound and an address of it is meant. Any goroutine
// may ask; run keeps the answers fresh.
type addresses struct {
	cfg        config.Media
	names      []*announcedName
	local      bool // the machine's own addresses are announced, too
	production bool
	// preferred is the only family that is announced; 0: each client gets its own.
	preferred workerv1.AddressFamily
	served    map[workerv1.AddressFamily]bool
	log       *slog.Logger
	// lookup resolves a name for the network ip4, ip6 or ip.
	lookup func(ctx context.Context, network, name string) ([]netip.Addr, error)
	// known is closed once there is something to announce, which stays so.
	known chan struct{}

	mu      sync.Mutex
	machine []netip.Addr // guarded by mu
}

// announcedName is a host name or a literal address that a setting names.
type announcedName struct {
	name string
	// network is ip4 or ip6 when only that family is meant, ip for both.
	network string
	found   []netip.Addr // guarded by addresses.mu: the last good answer
	failing bool         // guarded by addresses.mu: the last look-up failed
}

func (n *announcedName) means(family workerv1.AddressFamily) bool {
	return n.network == "ip" || n.network == network(family)
}

func network(family workerv1.AddressFamily) string {
	if family == workerv1.AddressFamily_ADDRESS_FAMILY_IPV6 {
		return "ip6"
	}
	return "ip4"
}

// newAddresses takes the settings and the families whose sockets are bound. What has to be
// looked up is announced after the first refresh.
func newAddresses(cfg config.Config, served map[workerv1.AddressFamily]bool, log *slog.Logger) *addresses {
	a := &addresses{
		cfg: cfg.Media, served: served, log: log, production: cfg.Production(), lookup: lookupAlone,
		known: make(chan struct{}),
	}
	for _, n := range []announcedName{{name: cfg.Media.IPv4, network: "ip4"}, {name: cfg.Media.IPv6, network: "ip6"}} {
		if n.name != "" {
			a.names = append(a.names, &n)
		}
	}
	if len(a.names) == 0 {
		a.names = []*announcedName{{name: cfg.DefaultHost(), network: "ip"}}
		a.local = !cfg.Production()
	}
	if a.local && len(cfg.Media.Bind) > 0 { // nobody answers on the machine's other addresses
		a.local, a.names = false, nil
		for _, addr := range cfg.Media.Bind {
			a.names = append(a.names, &announcedName{name: addr.String(), network: "ip"})
		}
	}
	for _, n := range a.names {
		if addr, err := netip.ParseAddr(n.name); err == nil {
			n.found = []netip.Addr{addr.Unmap()}
			if a.production && addr.IsLoopback() {
				log.Warn("announced address is this machine's alone: no other machine reaches it", slog.String("address", n.name))
			}
		}
	}
	a.prefer(cfg.Media.PreferredFamily)
	a.noteKnownLocked() // nobody else has it yet
	return a
}

// prefer sets the preferred family, unless it is never announced.
func (a *addresses) prefer(family string) {
	switch family {
	case config.FamilyIPv4:
		a.preferred = workerv1.AddressFamily_ADDRESS_FAMILY_IPV4
	case config.FamilyIPv6:
		a.preferred = workerv1.AddressFamily_ADDRESS_FAMILY_IPV6
	default:
		return
	}
	meant := func(n *announcedName) bool { return n.means(a.preferred) }
	if a.served[a.preferred] && slices.ContainsFunc(a.names, meant) {
		return
	}
	a.log.Warn("preferred family is not announced: the other one is used", slog.String("preferred", family),
		slog.Bool("served", a.served[a.preferred]))
	a.preferred = workerv1.AddressFamily_ADDRESS_FAMILY_UNSPECIFIED
}

// forClient returns the family that a client gets, and what is announced to it for
// a slot: its own family, unless nothing of that is known or another is preferred.
func (a *addresses) forClient(client signaling.Family, slot ident.Slot) (workerv1.AddressFamily, []*workerv1.AnnouncedAddress) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.forClientLocked(client, slot)
}

func (a *addresses) forClientLocked(client signaling.Family, slot ident.Slot) (workerv1.AddressFamily, []*workerv1.AnnouncedAddress) {
	v4, v6 := workerv1.AddressFamily_ADDRESS_FAMILY_IPV4, workerv1.AddressFamily_ADDRESS_FAMILY_IPV6
	four, six := a.listLocked(v4, slot), a.listLocked(v6, slot)
	switch {
	case a.preferred == v4 && (len(four) > 0 || a.awaitsLocked(v4)):
		return v4, four
	case a.preferred == v6 && (len(six) > 0 || a.awaitsLocked(v6)):
		return v6, six
	case len(six) == 0:
		return v4, four
	case len(four) == 0:
		return v6, six
	case client == signaling.FamilyIPv4:
		return v4, four
	case client == signaling.FamilyIPv6:
		return v6, six
	default:
		return workerv1.AddressFamily_ADDRESS_FAMILY_UNSPECIFIED, append(four, six...)
	}
}

// listLocked is what is announced in one family: the named addresses first.
func (a *addresses) listLocked(family workerv1.AddressFamily, slot ident.Slot) []*workerv1.AnnouncedAddress {
	if !a.served[family] {
		return nil
	}
	port := a.cfg.IPv4Port
	if family == workerv1.AddressFamily_ADDRESS_FAMILY_IPV6 {
		port = a.cfg.IPv6Port
	}
	var all []netip.Addr
	for _, n := range a.names {
		if n.means(family) {
			all = append(all, n.found...)
		}
	}
	all = append(all, a.machine...)
	var out []*workerv1.AnnouncedAddress
	var seen []netip.Addr
	for _, addr := range all {
		if addr.Is4() != (family == workerv1.AddressFamily_ADDRESS_FAMILY_IPV4) || slices.Contains(seen, addr) || len(seen) == maxAddresses {
			continue
		}
		seen = append(seen, addr)
		out = append(out, &workerv1.AnnouncedAddress{Address: addr.String(), Port: uint32(port) + uint32(slot)}) //nolint:gosec // ports were checked
	}
	return out
}

// awaitsLocked reports whether the first answer for a name that means the family is still
// to come.
func (a *addresses) awaitsLocked(family workerv1.AddressFamily) bool {
	return slices.ContainsFunc(a.names, func(n *announcedName) bool { return n.means(family) && len(n.found) == 0 })
}

// isKnown reports whether there is something to announce.
func (a *addresses) isKnown() bool {
	select {
	case <-a.known:
		return true
	default:
		return false
	}
}

// noteKnownLocked closes known if there is something to announce.
func (a *addresses) noteKnownLocked() {
	if _, list := a.forClientLocked(signaling.FamilyAny, 0); len(list) > 0 && !a.isKnown() {
		close(a.known)
	}
}

// missing says, for clients and operators, why there is nothing to announce.
func (a *addresses) missing() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var names []string
	for _, n := range a.names {
		if len(n.found) == 0 && !slices.Contains(names, n.name) {
			names = append(names, n.name)
		}
	}
	if len(names) == 0 {
		return "no address to announce: no media socket is bound in the families of the announced addresses"
	}
	return "no address to announce: " + strings.Join(names, " and ") + " not resolved yet"
}

// machineAddresses are those of the machine's interfaces that a client may reach.
func machineAddresses() []netip.Addr {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var out []netip.Addr
	for _, entry := range list {
		prefix, err := netip.ParsePrefix(entry.String())
		if err != nil || prefix.Addr().IsLinkLocalUnicast() || prefix.Addr().IsMulticast() {
			continue
		}
		out = append(out, prefix.Addr().Unmap())
	}
	return out
}
