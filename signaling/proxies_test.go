package signaling

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// inside are trusted proxies on this machine and in a network.
var inside = append(loopback[:1:1], netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"))

func TestClientAddresses(t *testing.T) {
	const client, victim, proxy = "192.0.2.1", "198.51.100.7", "127.0.0.1:5"
	for _, row := range []struct {
		name, peer string
		trusted    []netip.Prefix
		forwarded  []string
		real       string
		counted    string
		stated     string
	}{
		{"direct", client + ":5", nil, nil, "", client, client},
		{"direct over IPv6", "[2001:db8::1%eth0]:5", nil, nil, "", "2001:db8::1", "2001:db8::1"},
		{"mapped", "[::ffff:192.0.2.1]:5", nil, nil, "", client, client},
		{"no proxy is trusted", proxy, nil, []string{victim}, victim, "127.0.0.1", "127.0.0.1"},
		{"a stranger's headers", client + ":5", inside, []string{"2001:db8::2"}, "2001:db8::3", client, client},
		{"no address", "@", inside, nil, victim, "invalid IP", "invalid IP"},
		{"no header", proxy, inside, nil, "", "127.0.0.1", "127.0.0.1"},
		{"a blank header", proxy, inside, []string{" , ,"}, "", "127.0.0.1", "127.0.0.1"},

		{"the proxy's client", proxy, inside, []string{client}, "", client, client},
		{"a mapped proxy", "[::ffff:127.0.0.1]:5", inside, []string{client}, "", client, client},
		{"an appending proxy", proxy, inside, []string{victim + ", " + client}, "", client, victim},
		{"many victims", proxy, inside, []string{strings.Repeat(victim+",", 3000) + client}, "", client, victim},
		{"a proxy's address is named", proxy, inside, []string{"10.0.0.1, 127.0.0.1, " + client}, "", client, "10.0.0.1"},
		{"behind two proxies", proxy, inside, []string{victim + ", " + client + ", 10.0.0.1"}, "", client, victim},
		{"behind proxies with two headers", proxy, inside, []string{victim, client, "10.0.0.1"}, "", client, victim},
		{"blanks", proxy, inside, []string{" ,, " + client + "\t,  10.0.0.1 ,"}, "", client, client},
		{"ports", proxy, inside, []string{client + ":5678, 10.0.0.1:80"}, "", client, client},
		{"brackets", proxy, inside, []string{"[2001:db8::1]:443, [fd00::1]"}, "", "2001:db8::1", "2001:db8::1"},
		{"quotes", proxy, inside, []string{`"[2001:db8::1]:443"`}, "", "2001:db8::1", "2001:db8::1"},
		{"a mapped client", proxy, inside, []string{"::ffff:192.0.2.1"}, "", client, client},
		{"a mapped proxy in the list", proxy, inside, []string{client + ", ::ffff:10.0.0.1"}, "", client, client},
		{"all are trusted", proxy, inside, []string{"10.9.9.9, 10.0.0.1"}, "", "10.9.9.9", "10.9.9.9"},
		{"the proxy knows nobody", proxy, inside, []string{"unknown"}, "", "127.0.0.1", "127.0.0.1"},
		{"an inner proxy knows nobody", proxy, inside, []string{victim + ", unknown, 10.0.0.1"}, "", "10.0.0.1", victim},
		{"nonsense before the client", proxy, inside, []string{"x'--, " + client}, "", client, "127.0.0.1"},
		{"a long entry", proxy, inside, []string{strings.Repeat("1", 20000) + ", " + client}, "", client, "127.0.0.1"},

		{"the real address alone", proxy, inside, nil, client, client, client},
		{"the real address beside a blank list", proxy, inside, []string{""}, "[2001:db8::1]", "2001:db8::1", "2001:db8::1"},
		{"the list counts more", proxy, inside, []string{client}, victim, client, client},
		{"the real address does not replace an unknown one", proxy, inside, []string{"unknown"}, victim, "127.0.0.1", victim},
		{"no real address", proxy, inside, nil, "nobody", "127.0.0.1", "127.0.0.1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: row.peer, Header: http.Header{}}
			r.Header[headerForwardedFor] = row.forwarded
			if row.real != "" {
				r.Header.Set("X-Real-IP", row.real)
			}
			counted, stated := proxies(row.trusted).clientAddrs(r)
			if counted.String() != row.counted || stated.String() != row.stated {
				t.Errorf("got %s %s, want %s %s", counted, stated, row.counted, row.stated)
			}
		})
	}
}

func TestFamilyOf(t *testing.T) {
	for text, want := range map[string]Family{"192.0.2.1": FamilyIPv4, "2001:db8::1": FamilyIPv6} {
		if got := familyOf(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
	if got := familyOf(netip.Addr{}); got != FamilyAny {
		t.Errorf("no address: %s", got)
	}
}

// FuzzForwardedFor appends the client's address as a proxy does: whatever comes
// before it, the client is the one that counts.
func FuzzForwardedFor(f *testing.F) {
	for _, seed := range []string{"", "198.51.100.7", "10.0.0.1, unknown", "[2001:db8::1]:443,", ",, x", "\"127.0.0.1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		const client = "192.0.2.1"
		r := &http.Request{RemoteAddr: "127.0.0.1:5", Header: http.Header{headerForwardedFor: {sent + ", " + client + ", 10.0.0.1"}}}
		if counted, _ := proxies(inside).clientAddrs(r); counted.String() != client {
			t.Fatalf("%q counts as %s", sent, counted)
		}
	})
}
