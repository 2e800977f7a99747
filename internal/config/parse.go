package config

import (
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/origin"
)

const (
	maxPort     = 65535
	maxShown    = 80 // bytes of a wrong value in a message
	maxDuration = 7 * 24 * time.Hour
)

// wrong says that a value is not what is wanted.
func wrong(value, want string) error {
	hint := ""
	if quote := value[:min(len(value), 1)]; len(value) > 1 && (quote == `"` || quote == "'") && strings.HasSuffix(value, quote) {
		hint = " (the quotes are part of the value; write it without them)"
	}
	if len(value) > maxShown {
		value = value[:maxShown] + "…"
	}
	return fmt.Errorf("%q is not %s%s: %w", value, want, hint, errs.ErrInvalid)
}

func text(into *string, v string) error {
	if strings.ContainsRune(v, 0) {
		return wrong(v, "a text without zero bytes")
	}
	*into = v
	return nil
}

func oneOf(into *string, v string, allowed ...string) error {
	if !slices.Contains(allowed, v) {
		return wrong(v, strings.Join(allowed, " or "))
	}
	*into = v
	return nil
}

func whole(into *int, v string, low, high int) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		return wrong(v, fmt.Sprintf("a whole number from %d to %d", low, high))
	}
	*into = n
	return nil
}

func port(into *int, v string) error { return whole(into, v, 1, maxPort) }

func number(into *float64, v string, low, high float64) error {
	n, err := strconv.ParseFloat(v, 64)
	if err != nil || !(n >= low && n <= high) { // not a number fails both
		return wrong(v, fmt.Sprintf("a number from %g to %g", low, high))
	}
	*into = n
	return nil
}

func truth(into *bool, v string) error {
	b, err := strconv.ParseBool(v)
	if err != nil {
		return wrong(v, "true or false")
	}
	*into = b
	return nil
}

func milliseconds(into *time.Duration, v string, low int) error {
	var n int
	if err := whole(&n, v, low, int(maxDuration/time.Millisecond)); err != nil {
		return err
	}
	*into = time.Duration(n) * time.Millisecond
	return nil
}

func duration(into *time.Duration, v string) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < time.Millisecond || d > maxDuration {
		return wrong(v, "a duration like 500ms, 5s or 1m, at least 1ms")
	}
	*into = d
	return nil
}

func wait(into *time.Duration, v string) error {
	return between(into, v, 100*time.Microsecond, 20*time.Millisecond)
}

// admissionWait stays below the time limit of an HTTP request.
func admissionWait(into *time.Duration, v string) error {
	return between(into, v, 10*time.Millisecond, 25*time.Second)
}

func between(into *time.Duration, v string, least, most time.Duration) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < least || d > most {
		return wrong(v, fmt.Sprintf("a duration from %v to %v", least, most))
	}
	*into = d
	return nil
}

func level(into *slog.Level, v string) error {
	if err := into.UnmarshalText([]byte(v)); err != nil {
		return wrong(v, "debug, info, warn or error")
	}
	return nil
}

// parts splits a list at commas and spaces.
func parts(v string) []string {
	return strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' })
}

func origins(into *origin.List, v string) error {
	list, err := origin.ParseList(parts(v)...)
	if err != nil {
		return err
	}
	*into = list
	return nil
}

func prefixes(into *[]netip.Prefix, v string) error {
	var list []netip.Prefix
	for _, p := range parts(v) {
		prefix, err := netip.ParsePrefix(p)
		if err != nil {
			addr, err := netip.ParseAddr(p)
			if err != nil {
				return wrong(p, "an address or a network like 10.0.0.0/8")
			}
			addr = addr.Unmap().WithZone("")
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		if v4 := 128 - 32; prefix.Addr().Is4In6() && prefix.Bits() >= v4 { // peers are compared unmapped
			prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-v4)
		}
		list = append(list, prefix.Masked())
	}
	*into = list
	return nil
}

// socketURL takes the URL of a WebSocket, or that of its page or server.
func socketURL(into *string, v string) error {
	var address string
	if err := baseURL(&address, v, "wss", "ws", "https", "http"); err != nil {
		return err
	}
	u, err := url.Parse(address)
	if err != nil {
		return wrong(v, "a URL")
	}
	u.Scheme = strings.Replace(u.Scheme, "http", "ws", 1)
	if u.Path == "" {
		u.Path = "/socket"
	}
	*into = u.String()
	return nil
}

// localAddresses takes addresses that a media socket can be bound to and a client can
// reach. A link-local one would need an interface, which no ICE candidate can tell.
func localAddresses(into *[]netip.Addr, v string) error {
	var list []netip.Addr
	for _, p := range parts(v) {
		addr, err := netip.ParseAddr(p)
		if err != nil {
			return wrong(p, "an address like 192.0.2.1 or 2001:db8::1")
		}
		addr = addr.Unmap()
		switch {
		case addr.IsUnspecified():
			return wrong(p, "an address of this machine; all addresses are the default")
		case addr.IsMulticast(), addr.IsLinkLocalUnicast(), addr.Zone() != "":
			return wrong(p, "an address that clients can reach")
		case slices.Contains(list, addr):
			return wrong(p, "each address once")
		case len(list) == MaxBind:
			return wrong(p, fmt.Sprintf("at most %d addresses", MaxBind))
		}
		list = append(list, addr)
	}
	*into = list
	return nil
}

// baseURL takes a URL without credentials, query and fragment, and drops its last slash.
// The message does not repeat the value, which may hold a secret.
func baseURL(into *string, v string, schemes ...string) error {
	u, err := url.Parse(v)
	if err != nil || u.Hostname() == "" || !slices.Contains(schemes, u.Scheme) {
		return fmt.Errorf("want a URL like %s://host:port: %w", schemes[0], errs.ErrInvalid)
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return fmt.Errorf("the URL must hold no credentials, query or fragment: %w", errs.ErrInvalid)
	}
	if p := u.Port(); p != "" {
		var n int
		if err := port(&n, p); err != nil {
			return err
		}
	}
	*into = strings.TrimRight(u.String(), "/")
	return nil
}
