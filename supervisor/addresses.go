package supervisor

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/dspeak/sfu/internal/config"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/obs"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/signaling"
)

const (
	resolveTimeout = 5 * time.Second
	// maxAddresses bounds what is announced in one family.
	maxAddresses = 8
)

// addresses knows under which literal addresses clients reach the workers. Any
// goroutine may ask; one refreshes.
type addresses struct {
	cfg    config.Media
	names  []string // host names or literals to announce
	local  bool     // the machine's own addresses, too
	served map[workerv1.AddressFamily]bool
	log    *slog.Logger
	lookup func(ctx context.Context, name string) ([]netip.Addr, error)

	mu       sync.Mutex
	resolved map[string][]netip.Addr // guarded by mu: the last good answers
	machine  []netip.Addr            // guarded by mu
}

func newAddresses(cfg config.Config, served map[workerv1.AddressFamily]bool, log *slog.Logger) *addresses {
	a := &addresses{
		cfg: cfg.Media, served: served, log: log, resolved: map[string][]netip.Addr{},
		local: !cfg.Production(),
		lookup: func(ctx context.Context, name string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
		},
	}
	for _, name := range []string{cfg.Media.IPv4, cfg.Media.IPv6} {
		if name != "" {
			a.names = append(a.names, name)
		}
	}
	if len(a.names) == 0 {
		a.names = []string{cfg.DefaultHost()}
	} else {
		a.local = false
	}
	return a
}

// run refreshes the addresses until ctx ends.
func (a *addresses) run(ctx context.Context) {
	ticker := time.NewTicker(max(a.cfg.ResolveInterval, time.Second))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			a.refresh(ctx)
		}
	}
}

// refresh resolves every name; the last good answer stays when one fails.
func (a *addresses) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	for _, name := range a.names {
		found, err := a.resolve(ctx, name)
		if err != nil || len(found) == 0 {
			if ctx.Err() == nil || err != nil {
				a.log.Warn("announced host name not resolved", slog.String("name", name), slog.Any(obs.KeyError, err))
			}
			continue
		}
		a.mu.Lock()
		a.resolved[name] = found
		a.mu.Unlock()
	}
	if a.local {
		machine := machineAddresses()
		a.mu.Lock()
		a.machine = machine
		a.mu.Unlock()
	}
}

func (a *addresses) resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{addr.Unmap()}, nil
	}
	found, err := a.lookup(ctx, name)
	for i := range found {
		found[i] = found[i].Unmap()
	}
	return found, err
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

// forClient returns the family that a client gets, and what is announced to it for
// a slot: its own family, unless that is not served or another is forced.
func (a *addresses) forClient(client signaling.Family, slot ident.Slot) (workerv1.AddressFamily, []*workerv1.AnnouncedAddress) {
	v4, v6 := workerv1.AddressFamily_ADDRESS_FAMILY_IPV4, workerv1.AddressFamily_ADDRESS_FAMILY_IPV6
	four, six := a.list(v4, slot), a.list(v6, slot)
	switch {
	case a.cfg.PreferredFamily == config.FamilyIPv4, len(six) == 0:
		return v4, four
	case a.cfg.PreferredFamily == config.FamilyIPv6, len(four) == 0:
		return v6, six
	case client == signaling.FamilyIPv4:
		return v4, four
	case client == signaling.FamilyIPv6:
		return v6, six
	default:
		return workerv1.AddressFamily_ADDRESS_FAMILY_UNSPECIFIED, append(four, six...)
	}
}

// list is what is announced in one family: the named addresses first.
func (a *addresses) list(family workerv1.AddressFamily, slot ident.Slot) []*workerv1.AnnouncedAddress {
	if !a.served[family] {
		return nil
	}
	port := a.cfg.IPv4Port
	if family == workerv1.AddressFamily_ADDRESS_FAMILY_IPV6 {
		port = a.cfg.IPv6Port
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []netip.Addr
	for _, name := range a.names {
		all = append(all, a.resolved[name]...)
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
