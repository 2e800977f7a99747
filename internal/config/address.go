package config

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/dspeak/sfu/internal/errs"
)

// unbracketed drops the brackets of an IPv6 address in a URL.
func unbracketed(v string) string {
	if strings.HasPrefix(v, "[") && strings.HasSuffix(v, "]") {
		return v[1 : len(v)-1]
	}
	return v
}

// withPort reports whether v is an address or a name with a port.
func withPort(v string) bool {
	host, number, err := net.SplitHostPort(v)
	var n int
	return err == nil && host != "" && port(&n, number) == nil
}

// listenHost takes the address to listen on.
func listenHost(into *string, v string) error {
	if withPort(v) {
		return wrong(v, "an IP address alone; PORT sets the port")
	}
	addr, err := netip.ParseAddr(unbracketed(v))
	addr = addr.Unmap()
	switch {
	case err != nil:
		return wrong(v, "an IP address of this machine; names are not looked up, and without a value all addresses are bound")
	case addr.IsMulticast() || addr == broadcast():
		return wrong(v, "an address that a server can listen on")
	case addr.Is6() && addr.IsLinkLocalUnicast() && addr.Zone() == "":
		return wrong(v, "complete: a link-local address needs its interface, as in fe80::1%eth0")
	}
	*into = addr.String()
	return nil
}

// address takes what is announced for a family: a literal of the family or a host name.
func address(into *string, v, family string) error {
	env, other := "SFU_IPV4", "SFU_IPV6"
	if family == FamilyIPv6 {
		env, other = other, env
	}
	if withPort(v) {
		return wrong(v, fmt.Sprintf("an address or a name alone; %s_PORT sets the port", env))
	}
	addr, err := netip.ParseAddr(unbracketed(v))
	addr = addr.Unmap()
	literal := err == nil
	switch {
	case !literal && !hostName(v):
		return wrong(v, "an "+family+" address or a host name")
	case !literal:
		*into = v
		return nil
	case addr.Is4() != (family == FamilyIPv4):
		return fmt.Errorf("%q is no %s address; announce it with %s: %w", v, family, other, errs.ErrInvalid)
	case !Announceable(addr):
		return wrong(v, "an "+family+" address that a client can reach")
	}
	*into = addr.String()
	return nil
}

// Announceable reports whether an address can be told to clients: it is one host's and
// means the same on every machine, or on all of one network.
func Announceable(addr netip.Addr) bool {
	return addr.IsValid() && addr.Zone() == "" && !addr.IsUnspecified() && !addr.IsMulticast() && addr != broadcast() &&
		(addr.Is4() || !addr.IsLinkLocalUnicast())
}

func broadcast() netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 255, 255}) }

// hostName reports whether v can be a name in the DNS. A last label of digits only is a
// wrong address.
func hostName(v string) bool {
	v = strings.TrimSuffix(v, ".")
	if v == "" || len(v) > 253 {
		return false
	}
	labels := strings.Split(v, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.Trim(l, letters+"0123456789-_") != "" {
			return false
		}
	}
	return strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
