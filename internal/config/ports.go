package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/dspeak/sfu/internal/errs"
)

// CheckPorts reports whether so many workers have their ports: those of every slot, the
// quarantine's included, exist, and none is the public port. The error names the variables
// to change and wraps errs.ErrInvalid.
func (c Config) CheckPorts(workers int) error {
	if faults := c.portFaults(workers); len(faults) > 0 {
		return joined(faults)
	}
	return nil
}

func (c Config) portFaults(workers int) []error {
	var faults []error
	slots := strconv.Itoa(workers) + " workers"
	if workers == 1 {
		slots = "1 worker"
	}
	bound := c.Media.boundPorts(workers)
	ranges := []portRange{{"SFU_PORT", bound[0].first, bound[1].last}}
	if c.Media.IPv4Port != c.Media.Port {
		ranges = append(ranges, portRange{"SFU_IPV4_PORT", c.Media.IPv4Port, c.Media.IPv4Port + workers})
	}
	if c.Media.IPv6Port != c.Media.Port+1 {
		ranges = append(ranges, portRange{"SFU_IPV6_PORT", c.Media.IPv6Port, c.Media.IPv6Port + workers})
	}
	for _, r := range ranges {
		if r.last > maxPort {
			faults = append(faults, fmt.Errorf("%s: %s and the quarantine need the ports %d to %d, the last is %d; choose a lower port or fewer workers: %w",
				r.name, slots, r.first, r.last, maxPort, errs.ErrInvalid))
		}
	}
	for _, r := range bound {
		if c.HTTP.Port != 0 && c.sharesAddress(r.name) && c.HTTP.Port >= r.first && c.HTTP.Port <= r.last {
			return append(faults, fmt.Errorf("PORT: %d is a media port, too: SFU_PORT %d with %s takes the TCP ports %d to %d for %s; change one of both: %w",
				c.HTTP.Port, c.Media.Port, slots, r.first, r.last, r.name, errs.ErrInvalid))
		}
	}
	return faults
}

// portRange is the ports that a setting or an address family needs.
type portRange struct {
	name        string
	first, last int
}

// boundPorts are the ports of all slots in each family. One slot more is the quarantine's.
func (m Media) boundPorts(workers int) [2]portRange {
	return [2]portRange{
		{FamilyIPv4, m.Port, m.Port + workers},
		{FamilyIPv6, m.Port + 1, m.Port + 1 + workers},
	}
}

// sharesAddress reports whether the public port and the media sockets of the family are
// bound to a common address.
func (c Config) sharesAddress(family string) bool {
	public, err := netip.ParseAddr(c.HTTP.Host)
	all := err != nil || public == netip.IPv6Unspecified()
	if len(c.Media.Bind) == 0 {
		return all || public.Is4() == (family == FamilyIPv4)
	}
	return slices.ContainsFunc(c.Media.Bind, func(addr netip.Addr) bool {
		return addr.Is4() == (family == FamilyIPv4) && (all || addr == public || public == netip.IPv4Unspecified() && addr.Is4())
	})
}
