package origin

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/dspeak/sfu/internal/errs"
)

// opaque is the origin of sandboxed frames, of file: and data: pages, and of some
// redirects (RFC 6454 section 7.3).
const opaque = "null"

// maxBytes bounds an origin: a host name has at most 253 bytes.
const maxBytes = 512

// defaultPorts are the ports that an origin leaves out.
var defaultPorts = map[string]string{"http": "80", "https": "443"} //nolint:gochecknoglobals // a constant table

// Canonical returns the form in which two spellings of an origin are equal: lower
// case, without the default port and without a last slash, a host name in ASCII
// and an IPv6 address in its shortest form. An app's own scheme is as good as
// https. Anything else than an origin is an errs.ErrInvalid.
func Canonical(s string) (string, error) {
	if strings.EqualFold(s, opaque) {
		return opaque, nil
	}
	scheme, rest, ok := strings.Cut(s, "://")
	scheme = strings.ToLower(scheme)
	if !ok || len(s) > maxBytes || !utf8.ValidString(s) || !isScheme(scheme) {
		return "", invalid(s)
	}
	authority := strings.TrimSuffix(rest, "/")
	if authority == "" && scheme == "file" {
		return "file://", nil // older web views send it for a page of their app
	}
	host, port, err := splitPort(authority)
	if err == nil {
		host, err = canonicalHost(host)
	}
	if err != nil {
		return "", invalid(s)
	}
	if port != "" && port != defaultPorts[scheme] {
		host += ":" + port
	}
	return scheme + "://" + host, nil
}

func invalid(s string) error {
	const shown = 80
	if len(s) > shown {
		s = s[:shown] + "…"
	}
	return fmt.Errorf("%q is not an origin like https://app.example.org, capacitor://localhost or null: %w", s, errs.ErrInvalid)
}

// isScheme reports whether s can be the scheme of a page (RFC 3986 section 3.1).
// The schemes of sockets are none: an origin names the page.
func isScheme(s string) bool {
	if s == "" || s[0] < 'a' || s[0] > 'z' || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789+-.") != "" {
		return false
	}
	return !slices.Contains([]string{"ws", "wss", "data", "blob", "javascript"}, s)
}

// splitPort separates a port, which it returns without leading zeros.
func splitPort(authority string) (host, port string, err error) {
	end := strings.LastIndexByte(authority, ':')
	if end < 0 || strings.HasSuffix(authority, "]") {
		return authority, "", nil
	}
	n, err := strconv.ParseUint(authority[end+1:], 10, 16)
	if err != nil || n == 0 {
		return "", "", fmt.Errorf("port: %w", errs.ErrInvalid)
	}
	return authority[:end], strconv.FormatUint(n, 10), nil
}

// canonicalHost returns a host in ASCII and lower case.
func canonicalHost(host string) (string, error) {
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		addr, err := netip.ParseAddr(host[1 : len(host)-1])
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", fmt.Errorf("IPv6 address: %w", errs.ErrInvalid)
		}
		return "[" + addr.String() + "]", nil
	}
	if strings.ContainsFunc(host, func(r rune) bool { return r > '~' }) {
		ascii, err := idna.Lookup.ToASCII(host)
		if err != nil {
			return "", fmt.Errorf("host name: %w: %w", err, errs.ErrInvalid)
		}
		host = ascii
	}
	host = strings.ToLower(host)
	if host == "" || strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-._") != "" {
		return "", fmt.Errorf("host name: %w", errs.ErrInvalid)
	}
	return host, nil
}
