package signaling

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/origin"
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
		{"a proxy that names its client only", loopback, http.Header{"X-Forwarded-For": {"192.0.2.1"}}, "ws://%s/socket"},
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
	list := func(entries ...string) Config {
		parsed, err := origin.ParseList(entries...)
		if err != nil {
			t.Fatal(err)
		}
		return Config{Origins: parsed}
	}
	for _, row := range []struct {
		name    string
		cfg     Config
		origin  string
		host    string
		allowed bool
	}{
		{"no browser", Config{}, "", "sfu.example.org", true},
		{"another site", Config{}, "https://evil.example", "sfu.example.org", true},
		{"behind a proxy's default Host", Config{}, "https://app.example.org", "127.0.0.1:8425", true},
		{"a sandboxed page", Config{}, "null", "sfu.example.org", true},
		{"nonsense", Config{}, "%%%", "sfu.example.org", true},
		{"a listed origin", list("https://app.example"), "https://APP.example", "sfu.example.org", true},
		{"a listed app", list("capacitor://localhost", "null"), "capacitor://localhost", "sfu.example.org", true},
		{"a listed null", list("capacitor://localhost", "null"), "null", "sfu.example.org", true},
		{"another scheme", list("https://app.example"), "http://app.example", "sfu.example.org", false},
		{"the own host is not enough", list("https://app.example"), "https://sfu.example.org", "sfu.example.org", false},
		{"no browser, with a list", list("https://app.example"), "", "sfu.example.org", true},
		{"all are listed", list("*"), "https://evil.example", "sfu.example.org", true},
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

// TestOriginLog wants a line that says what was refused and what to change, and few
// of them.
func TestOriginLog(t *testing.T) {
	list, err := origin.ParseList("https://app.example", "null")
	if err != nil {
		t.Fatal(err)
	}
	h := start(t, Config{Origins: list})
	refuse := func(value string) {
		t.Helper()
		_, resp, err := h.dialQuery(t, "?auth=secret-1&channelId=c", http.Header{"Origin": {value}})
		if err == nil || resp.StatusCode != http.StatusForbidden {
			t.Fatalf("%v", err)
		}
	}
	refuse("https://evil.example")
	for _, want := range []string{"origin refused", "https://evil.example", "https://app.example, null", "DSPEAK_ORIGINS"} {
		if !strings.Contains(h.log.String(), want) {
			t.Errorf("%q is not in the log:\n%s", want, h.log)
		}
	}
	for range 4 * refusalLogBurst {
		refuse("https://" + strings.Repeat("x", 2000))
	}
	text := h.log.String()
	if n := strings.Count(text, "origin refused"); n > 2*refusalLogBurst {
		t.Errorf("%d lines", n)
	}
	if strings.Contains(text, strings.Repeat("x", 2*maxShownBytes)) {
		t.Error("a line repeats all that a stranger sent")
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
		{"a zero byte", "?auth=a%00b&channelId=c", invalid},
		{"half a character", "?auth=a&channelId=%C3", invalid},
		{"a surrogate", "?auth=a&channelId=%ED%A0%80", invalid},
		{"the first value is empty", "?auth=&auth=a&channelId=c", missing},
		{"another case", "?Auth=a&channelid=c", missing},
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
	for _, row := range []struct{ name, query, user, channel string }{
		{"a semicolon is no separator", "?auth=a;b&channelId=c", "a;b", "c"},
		{"a plus sign stays one", "?auth=a+b/c==&channelId=x+y", "a+b/c==", "x+y"},
		{"sequences are decoded", "?auth=a%2Bb%2fc%3D%3d&channelId=%C3%A9%20x", "a+b/c==", "é x"},
		{"sequences are decoded once", "?auth=a%252B&channelId=%2525", "a%2B", "%25"},
		{"what begins no sequence stays", "?auth=100%25%zz%&channelId=%4", "100%%zz%", "%4"},
		{"the first value counts", "?auth=a&channelId=c&auth=b&channelId=d", "a", "c"},
		{"a name in sequences", "?%61uth=a&channelI%64=c", "a", "c"},
		{"parameters of others", "?x&&=1&auth=a&y=%&channelId=c&z=;", "a", "c"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, _, err := h.dialQuery(t, row.query, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.expect(t, "currentlyInChannel")
			if s := h.backend.session(t); string(s.UserID()) != row.user || string(s.ChannelID()) != row.channel {
				t.Errorf("user %q, channel %q", s.UserID(), s.ChannelID())
			}
		})
	}
}

func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"auth=a+b%2B&channelId=c", "auth=%zz&channelId=%", "auth=a;b&&channelId=%00", "auth=%ff&channelId=c", "auth=a&auth=b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		credential, channel, refusal := query(&http.Request{URL: &url.URL{RawQuery: raw}})
		if refusal != nil {
			if credential != "" || channel != "" {
				t.Fatal("a refusal with values")
			}
			return
		}
		if !printable(credential, maxCredentialBytes) || !printable(string(channel), maxChannelIDBytes) || credential == "" || channel == "" {
			t.Fatalf("%q %q", credential, channel)
		}
		// What a client escapes arrives as it was.
		escaped := "auth=" + escapeAll(credential) + "&channelId=" + escapeAll(string(channel))
		again, same, refusal := query(&http.Request{URL: &url.URL{RawQuery: escaped}})
		if refusal != nil || again != credential || same != channel {
			t.Fatalf("%q becomes %q", credential, again)
		}
	})
}

func escapeAll(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02X", s[i])
	}
	return b.String()
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
