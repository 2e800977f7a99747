package signaling

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// proxies are the networks whose forwarding headers count.
type proxies []netip.Prefix

func (p proxies) has(addr netip.Addr) bool {
	return slices.ContainsFunc(p, func(n netip.Prefix) bool { return n.Contains(addr) })
}

// peer returns the address of the connection itself, the zero Addr for an unknown one.
func peer(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// The headers in which a proxy names its client.
const (
	headerForwardedFor = "X-Forwarded-For"
	headerRealIP       = "X-Real-Ip"
)

// clientAddrs returns where a request comes from: counted is the address that
// limits apply to, stated is the one that the client is said to have. They differ
// when a client names an address itself: a proxy appends the address that it sees,
// so only what trusted proxies have appended can be believed, while stated decides
// nothing but which candidates the client itself is offered. Both are the peer
// when it is no trusted proxy, and the zero Addr when the peer is unknown.
func (p proxies) clientAddrs(r *http.Request) (counted, stated netip.Addr) {
	direct := peer(r)
	if !p.has(direct) {
		return direct, direct
	}
	hops := strings.Join(r.Header.Values(headerForwardedFor), ",")
	realIP, named := parseAddr(r.Header.Get(headerRealIP))
	if strings.Trim(hops, ", \t") == "" {
		if named {
			return realIP, realIP
		}
		return direct, direct
	}
	stated = direct
	if first, ok := parseAddr(firstOf(hops)); ok {
		stated = first
	} else if named {
		stated = realIP
	}
	return p.lastUntrusted(hops, direct), stated
}

// maxHops bounds how many trusted proxies a request may have passed.
const maxHops = 32

// lastUntrusted returns the right-most address of an X-Forwarded-For list that is
// no trusted proxy. Where the list ends before, or a trusted proxy did not know
// whom it served, that is the farthest proxy itself, and from is the nearest.
func (p proxies) lastUntrusted(hops string, from netip.Addr) netip.Addr {
	for range maxHops {
		hops = strings.TrimRight(hops, ", \t")
		if hops == "" {
			return from
		}
		start := strings.LastIndexByte(hops, ',') + 1
		addr, ok := parseAddr(hops[start:])
		if !ok {
			return from
		}
		if from = addr; !p.has(addr) {
			return from
		}
		hops = hops[:start]
	}
	return from
}

// firstOf returns the first entry of a list that is not blank.
func firstOf(list string) string {
	first, _, _ := strings.Cut(strings.TrimLeft(list, ", \t"), ",")
	return first
}

// maxAddrBytes bounds an entry: an IPv6 address with brackets, zone and port.
const maxAddrBytes = 128

// parseAddr reads an address as proxies write it: bare, in brackets, with a port,
// or in quotes.
func parseAddr(text string) (netip.Addr, bool) {
	text = strings.Trim(text, " \t\"")
	if len(text) > maxAddrBytes {
		return netip.Addr{}, false
	}
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	if inner, ok := strings.CutPrefix(text, "["); ok {
		text, ok = strings.CutSuffix(inner, "]")
		if !ok {
			return netip.Addr{}, false
		}
	}
	addr, err := netip.ParseAddr(text)
	return addr.Unmap().WithZone(""), err == nil
}

func familyOf(addr netip.Addr) Family {
	switch {
	case addr.Is4():
		return FamilyIPv4
	case addr.Is6():
		return FamilyIPv6
	}
	return FamilyAny
}

// addressKey returns what the cap per address counts: one client has a whole /64 in IPv6.
func addressKey(addr netip.Addr) netip.Prefix {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	key, _ := addr.Prefix(bits) // the zero Prefix for an unknown address
	return key
}

// host returns the name and port under which the client reached the server.
func (p proxies) host(r *http.Request) string {
	if forwarded := firstOf(r.Header.Get("X-Forwarded-Host")); forwarded != "" && p.has(peer(r)) {
		return strings.TrimSpace(forwarded)
	}
	return r.Host
}

// scheme returns the scheme of the socket's URL as the client sees it.
func (p proxies) scheme(r *http.Request) string {
	if p.has(peer(r)) {
		switch strings.ToLower(strings.TrimSpace(firstOf(r.Header.Get("X-Forwarded-Proto")))) {
		case "https", "wss":
			return "wss"
		case "http", "ws":
			return "ws"
		}
	}
	if r.TLS != nil {
		return "wss"
	}
	return "ws"
}
