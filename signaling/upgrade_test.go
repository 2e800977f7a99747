package signaling

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/signaling/wire"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func TestUpgradeRequired(t *testing.T) {
	for _, row := range []struct {
		name    string
		trusted []netip.Prefix
		header  http.Header
		want    string // with %s for the server's address
	}{
		{"plain", nil, nil, "ws://%s/socket"},
		{"a stranger's headers", nil, http.Header{"X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"evil.example"}}, "ws://%s/socket"},
		{"a proxy with TLS", loopback, http.Header{"X-Forwarded-Proto": {"https"}}, "wss://%s/socket"},
		{"a proxy with a name", loopback, http.Header{"X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"sfu.example.org"}}, "wss://sfu.example.org/socket"},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := start(t, Config{TrustedProxies: row.trusted})
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.http.URL+"/socket?auth=secret&channelId=c", nil)
			if err != nil {
				t.Fatal(err)
			}
			maps.Copy(req.Header, row.header)
			resp, err := h.http.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			var body struct{ Error, Message, WebsocketURL string }
			if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
				t.Fatal(err)
			}
			want := row.want
			if strings.Contains(want, "%s") {
				want = fmt.Sprintf(want, strings.TrimPrefix(h.http.URL, "http://"))
			}
			if resp.StatusCode != http.StatusUpgradeRequired || body.Error != "Upgrade Required" || body.Message == "" || body.WebsocketURL != want {
				t.Errorf("%d %+v, want %s", resp.StatusCode, body, want)
			}
		})
	}
}

func TestOrigin(t *testing.T) {
	for _, row := range []struct {
		name    string
		cfg     Config
		origin  string
		host    string
		allowed bool
	}{
		{"no browser", Config{}, "", "sfu.example.org", true},
		{"the same host", Config{}, "https://sfu.example.org", "sfu.example.org", true},
		{"the same host with a port", Config{}, "http://127.0.0.1:8425", "127.0.0.1:8425", true},
		{"another port of an address", Config{}, "http://127.0.0.1:1", "127.0.0.1:8425", false},
		{"the same site", Config{}, "https://app.darelisme.my.id", "sfu.darelisme.my.id:443", true},
		{"another customer of the registry", Config{}, "https://evil.my.id", "darelisme.my.id", false},
		{"another site", Config{}, "https://evil.example", "sfu.example.org", false},
		{"a sandboxed page", Config{}, "null", "sfu.example.org", false},
		{"a listed origin", Config{Origins: []string{"https://app.example"}}, "https://APP.example", "sfu.example.org", true},
		{"a listed origin with another scheme", Config{Origins: []string{"https://app.example"}}, "http://app.example", "sfu.example.org", false},
		{"with a list, the same site is not enough", Config{Origins: []string{"https://app.example"}}, "https://x.example.org", "sfu.example.org", false},
		{"with a list, the same host is", Config{Origins: []string{"https://app.example"}}, "https://sfu.example.org", "sfu.example.org", true},
		{"all are listed", Config{Origins: []string{"*"}}, "https://evil.example", "sfu.example.org", true},
		{"development", Config{AnyOrigin: true}, "https://evil.example", "sfu.example.org", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := start(t, row.cfg)
			header := http.Header{"Host": {row.host}}
			if row.origin != "" {
				header.Set("Origin", row.origin)
			}
			_, resp, err := h.dialQuery(t, "?auth=secret-1&channelId=c", header)
			if (err == nil) != row.allowed {
				t.Fatalf("%v", err)
			}
			if err != nil && resp.StatusCode != http.StatusForbidden {
				t.Errorf("status %d", resp.StatusCode)
			}
			if strings.Contains(h.log.String(), "secret-1") {
				t.Errorf("the credential is in the log:\n%s", h.log)
			}
		})
	}
}

func TestClientAddress(t *testing.T) {
	for _, row := range []struct {
		name, peer, forwarded, real string
		trusted                     []netip.Prefix
		want                        string
		family                      Family
	}{
		{"direct", "192.0.2.1:5", "", "", nil, "192.0.2.1", FamilyIPv4},
		{"direct over IPv6", "[2001:db8::1%eth0]:5", "", "", nil, "2001:db8::1", FamilyIPv6},
		{"mapped", "[::ffff:192.0.2.1]:5", "", "", nil, "192.0.2.1", FamilyIPv4},
		{"a stranger's headers", "192.0.2.1:5", "2001:db8::2", "2001:db8::3", loopback, "192.0.2.1", FamilyIPv4},
		{"a proxy's chain", "127.0.0.1:5", "2001:db8::2, 10.0.0.1", "192.0.2.9", loopback, "2001:db8::2", FamilyIPv6},
		{"a proxy's chain with ports", "127.0.0.1:5", "[2001:db8::2]:99", "", loopback, "2001:db8::2", FamilyIPv6},
		{"a proxy's real address", "127.0.0.1:5", "", "192.0.2.9", loopback, "192.0.2.9", FamilyIPv4},
		{"a proxy's nonsense", "127.0.0.1:5", "unknown", "", loopback, "127.0.0.1", FamilyIPv4},
		{"no address", "@", "192.0.2.9", "", loopback, "invalid IP", FamilyAny},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: row.peer, Header: http.Header{"X-Forwarded-For": {row.forwarded}, "X-Real-Ip": {row.real}}}
			addr := proxies(row.trusted).clientAddr(r)
			if addr.String() != row.want || familyOf(addr) != row.family {
				t.Errorf("got %s %s", addr, familyOf(addr))
			}
		})
	}
}

func TestFamilyOfSession(t *testing.T) {
	h := start(t, Config{TrustedProxies: loopback})
	if _, _, err := h.dialQuery(t, "?auth=u&channelId=c", http.Header{"X-Forwarded-For": {"2001:db8::2"}}); err != nil {
		t.Fatal(err)
	}
	if s := h.backend.session(t); s.Family() != FamilyIPv6 || s.Family().String() != "ipv6" || s.ID() == "" {
		t.Errorf("%s %q", s.Family(), s.ID())
	}
}

func TestAdmit(t *testing.T) {
	for _, row := range []struct {
		name   string
		err    error
		status int
	}{
		{"denied", fmt.Errorf("removed from the channel: %w", errs.ErrDenied), http.StatusForbidden},
		{"stopping", fmt.Errorf("server is stopping: %w", errs.ErrUnavailable), http.StatusServiceUnavailable},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBackend()
			b.admit = func(u ident.UserID, c ident.ChannelID) error {
				if u == "bob" && c == "c" {
					return row.err
				}
				return nil
			}
			h := start(t, Config{Backend: b})
			_, resp, err := h.dialQuery(t, "?auth=bob&channelId=c", nil)
			if err == nil || resp.StatusCode != row.status {
				t.Fatalf("%v %v", resp, err)
			}
			if body, _ := io.ReadAll(resp.Body); !strings.Contains(string(body), row.err.Error()) {
				t.Errorf("body %q", body)
			}
			h.dial(t, "ann", "c").expect(t, "currentlyInChannel")
		})
	}
}

func TestConnectionCaps(t *testing.T) {
	h := start(t, Config{Limits: Limits{Connections: 3, ConnectionsPerAddress: 2}, TrustedProxies: loopback})
	from := func(addr string) (*client, int) {
		c, resp, err := h.dialQuery(t, "?auth=u&channelId=c", http.Header{"X-Forwarded-For": {addr}})
		if err != nil {
			return nil, resp.StatusCode
		}
		return c, 0
	}
	first, _ := from("2001:db8::1")
	if _, status := from("2001:db8::2"); status != 0 {
		t.Fatal(status)
	}
	if _, status := from("2001:db8::3"); status != http.StatusTooManyRequests {
		t.Errorf("a third of one /64 gets %d", status)
	}
	if _, status := from("2001:db8:0:1::1"); status != 0 {
		t.Errorf("the next /64 gets %d", status)
	}
	if _, status := from("192.0.2.1"); status != http.StatusServiceUnavailable {
		t.Errorf("a fourth in all gets %d", status)
	}
	_ = first.WriteControl(8, nil, time.Now().Add(patience))
	_ = first.drained()
	eventually(t, "the place becomes free", func() bool {
		_, status := from("2001:db8::3")
		return status == 0
	})
}

func TestQuery(t *testing.T) {
	const missing, invalid = "Missing auth or channelId in query params", "Invalid auth or channelId in query params"
	h := start(t, Config{})
	for _, row := range []struct{ name, query, want string }{
		{"nothing", "", missing},
		{"no channel", "?auth=a", missing},
		{"no credential", "?channelId=c", missing},
		{"an empty credential", "?auth=&channelId=c", missing},
		{"an empty channel", "?auth=a&channelId=", missing},
		{"a line break", "?auth=a%0d%0aX:1&channelId=c", invalid},
		{"no text", "?auth=%ff&channelId=c", invalid},
		{"a long channel", "?auth=a&channelId=" + strings.Repeat("c", 300), invalid},
		{"a long credential", "?channelId=c&auth=" + strings.Repeat("a", 5000), invalid},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, _, err := h.dialQuery(t, row.query, nil)
			if err != nil {
				t.Fatal(err)
			}
			if a := c.expect(t, "error"); a.text() != row.want {
				t.Errorf("got %s", a.Data)
			}
			if code, _ := c.closed(t); code != wire.ClosePolicy {
				t.Errorf("closed with %d", code)
			}
		})
	}
	t.Run("a semicolon is no separator", func(t *testing.T) {
		c, _, err := h.dialQuery(t, "?auth=a;b&channelId=c", nil)
		if err != nil {
			t.Fatal(err)
		}
		c.expect(t, "currentlyInChannel")
		if s := h.backend.session(t); s.UserID() != "a;b" {
			t.Errorf("user %q", s.UserID())
		}
	})
}

func TestCloseRefusesNewSockets(t *testing.T) {
	h := start(t, Config{})
	c := h.enter(t, "u")
	h.backend.session(t).Send(wire.ServerShutdown{Reason: "upgrade", ETA: 3})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- h.Close(ctx, wire.CloseRestart, "upgrade") }()
	c.expect(t, "server-shutdown")
	if code, reason := c.closed(t); code != wire.CloseRestart || reason != "upgrade" {
		t.Errorf("closed with %d %q", code, reason)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := h.backend.cause(t); got.Cause != wire.CauseServer || got.Code != wire.CloseRestart {
		t.Errorf("%+v", got)
	}
	if _, resp, err := h.dialQuery(t, "?auth=u&channelId=c", nil); err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a new socket: %v", err)
	}
}
