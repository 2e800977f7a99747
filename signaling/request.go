package signaling

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/publicsuffix"
)

// proxies are the networks whose forwarding headers count.
type proxies []netip.Prefix

func (p proxies) has(addr netip.Addr) bool {
	return slices.ContainsFunc(p, func(n netip.Prefix) bool { return n.Contains(addr) })
}

// peer is the address of the connection itself.
func peer(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// clientAddr is where the client is: what a trusted proxy says, else the peer.
// It is invalid when the peer is unknown.
func (p proxies) clientAddr(r *http.Request) netip.Addr {
	direct := peer(r)
	if !p.has(direct) {
		return direct
	}
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-For"), ",")
	for _, text := range []string{first, r.Header.Get("X-Real-IP")} {
		if addr, ok := parseAddr(text); ok {
			return addr
		}
	}
	return direct
}

// parseAddr reads an address as proxies write it: bare, in brackets, or with a port.
func parseAddr(text string) (netip.Addr, bool) {
	text = strings.TrimSpace(text)
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
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

// addressKey is what the cap per address counts: one client has a whole /64 in IPv6.
func addressKey(addr netip.Addr) netip.Prefix {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	key, _ := addr.Prefix(bits) // the zero Prefix for an unknown address
	return key
}

// host is the name and port under which the client reached the server.
func (p proxies) host(r *http.Request) string {
	if forwarded, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Host"), ","); forwarded != "" && p.has(peer(r)) {
		return strings.TrimSpace(forwarded)
	}
	return r.Host
}

// upgradeRequired answers a request that is no WebSocket.
func (s *Server) upgradeRequired(w http.ResponseWriter, r *http.Request) {
	scheme := "ws"
	if r.TLS != nil {
		scheme = "wss"
	}
	if s.trusted.has(peer(r)) {
		switch proto, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ","); strings.ToLower(strings.TrimSpace(proto)) {
		case "https", "wss":
			scheme = "wss"
		case "http", "ws":
			scheme = "ws"
		}
	}
	w.Header().Set("Upgrade", "websocket")
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUpgradeRequired)
	_ = json.NewEncoder(w).Encode(map[string]string{ // the client may be gone
		"error":        "Upgrade Required",
		"message":      "This is a WebSocket: connect with the query parameters auth and channelId.",
		"websocketUrl": (&url.URL{Scheme: scheme, Host: s.trusted.host(r), Path: r.URL.Path}).String(),
	})
}

// originAllowed says whether a page of the request's origin may open a socket.
// Programs that are no browsers send no Origin.
func (s *Server) originAllowed(r *http.Request) bool {
	origin := strings.ToLower(r.Header.Get("Origin"))
	if s.cfg.AnyOrigin || origin == "" {
		return true
	}
	if len(s.cfg.Origins) > 0 && (slices.Contains(s.cfg.Origins, "*") || slices.Contains(s.cfg.Origins, origin)) {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	own := strings.ToLower(s.trusted.host(r))
	if u.Host == own {
		return true
	}
	return len(s.cfg.Origins) == 0 && sameSite(u.Hostname(), own)
}

// sameSite says whether two hosts belong to one registered domain.
func sameSite(name, host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return false
	}
	a, err := publicsuffix.EffectiveTLDPlusOne(name)
	if err != nil {
		return false
	}
	b, err := publicsuffix.EffectiveTLDPlusOne(host)
	return err == nil && a == b
}

// printable says whether s is text of at most limit bytes that can stand in a header.
func printable(s string, limit int) bool {
	return len(s) <= limit && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
