package origin

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/dspeak/sfu/internal/errs"
)

// anyOrigin allows every origin.
const anyOrigin = "*"

// List is a set of allowed origins. The zero List allows every origin. It is
// never changed, so that any goroutine may use it.
type List struct{ entries []string }

// ParseList reads the entries of a list: origins, "*" for every origin, and
// "https://*.example.org" for the origins of all names below example.org, which
// itself is not among them. A wildcard must name a registered domain: below
// "*.org" everybody has a name. A wrong entry is an errs.ErrInvalid.
func ParseList(entries ...string) (List, error) {
	var l List
	for _, entry := range entries {
		canonical, err := parseEntry(entry)
		if err != nil {
			return List{}, err
		}
		if !slices.Contains(l.entries, canonical) {
			l.entries = append(l.entries, canonical)
		}
	}
	return l, nil
}

// wildcard stands between the scheme and the domain of an entry for many names.
const wildcard = "://*."

func parseEntry(entry string) (string, error) {
	if entry == anyOrigin {
		return anyOrigin, nil
	}
	scheme, domain, ok := strings.Cut(entry, wildcard)
	if !ok {
		return Canonical(entry)
	}
	canonical, err := Canonical(scheme + "://" + domain)
	if err != nil {
		return "", invalid(entry)
	}
	scheme, domain, _ = strings.Cut(canonical, "://")
	name, _, err := splitPort(domain)
	if err == nil {
		_, err = publicsuffix.EffectiveTLDPlusOne(name)
	}
	if err != nil || strings.HasPrefix(name, "[") {
		return "", fmt.Errorf("%q: a wildcard must stand before a registered domain, as in https://*.example.org: %w",
			entry[:min(len(entry), maxBytes)], errs.ErrInvalid)
	}
	return scheme + wildcard + domain, nil
}

// Allows reports whether a page of that origin may open a socket.
func (l List) Allows(header string) bool {
	if len(l.entries) == 0 || slices.Contains(l.entries, anyOrigin) {
		return true
	}
	canonical, err := Canonical(header)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(l.entries, func(entry string) bool {
		scheme, domain, many := strings.Cut(entry, wildcard)
		if !many {
			return entry == canonical
		}
		host, ok := strings.CutPrefix(canonical, scheme+"://")
		return ok && strings.HasSuffix(host, "."+domain) && len(host) > len(domain)+1
	})
}

// String is the list as one would write it, empty for the zero List.
func (l List) String() string { return strings.Join(l.entries, ", ") }
