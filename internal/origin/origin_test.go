package origin

import (
	"errors"
	"strings"
	"testing"

	"github.com/dspeak/sfu/internal/errs"
)

func TestCanonical(t *testing.T) {
	for _, row := range []struct{ in, want string }{
		{"https://app.example.org", "https://app.example.org"},
		{"HTTPS://App.Example.ORG/", "https://app.example.org"},
		{"https://a.example:443", "https://a.example"},
		{"https://a.example:0443", "https://a.example"},
		{"http://a.example:80/", "http://a.example"},
		{"http://a.example:443", "http://a.example:443"},
		{"http://localhost:3000", "http://localhost:3000"},
		{"http://my_host:1", "http://my_host:1"},
		{"http://192.0.2.1:8080", "http://192.0.2.1:8080"},
		{"https://[::1]:8443", "https://[::1]:8443"},
		{"https://[2001:DB8:0:0::1]", "https://[2001:db8::1]"},
		{"https://münchen.example", "https://xn--mnchen-3ya.example"},
		{"https://XN--MNCHEN-3YA.example", "https://xn--mnchen-3ya.example"},
		{"capacitor://localhost", "capacitor://localhost"},
		{"tauri://localhost", "tauri://localhost"},
		{"ionic://localhost/", "ionic://localhost"},
		{"app://-", "app://-"},
		{"app://.", "app://."},
		{"chrome-extension://abcdefghij", "chrome-extension://abcdefghij"},
		{"moz-extension://c0ffee00-0000-4000-8000-000000000000", "moz-extension://c0ffee00-0000-4000-8000-000000000000"},
		{"file://", "file://"},
		{"null", "null"},
		{"NULL", "null"},
	} {
		t.Run(row.in, func(t *testing.T) {
			if got, err := Canonical(row.in); err != nil || got != row.want {
				t.Errorf("got %q %v, want %q", got, err, row.want)
			}
		})
	}
}

func TestCanonicalRefusals(t *testing.T) {
	for _, in := range []string{
		"", "app.example.org", "//app.example.org", "://a", "https://", "https:///", "http:a", "capacitor://",
		"https://a/path", "https://a?q", "https://a#f", "https://user@a", "https://a:0", "https://a:65536", "https://a:x", "https://a:",
		"https://[::1", "https://::1", "https://[1.2.3.4]", "https://[fe80::1%25eth0]", "https://a b", "https://a\r\nb", "https://a//",
		"wss://a.example", "ws://a", "javascript://a", "1app://a", "https://*", "https://a.*", "nul", "*",
		"https://a https://b", "https://" + strings.Repeat("a", 600), "https://\xff",
	} {
		t.Run(in, func(t *testing.T) {
			if got, err := Canonical(in); !errors.Is(err, errs.ErrInvalid) || len(err.Error()) > 400 {
				t.Errorf("got %q %v", got, err)
			}
		})
	}
}

func TestList(t *testing.T) {
	for _, row := range []struct {
		name   string
		list   string
		origin string
		want   bool
	}{
		{"no list", "", "https://evil.example", true},
		{"no list, nonsense", "", "%%", true},
		{"everything", "https://a.example *", "https://evil.example", true},
		{"listed", "https://a.example https://b.example", "https://b.example", true},
		{"another spelling", "https://A.example:443/", "https://a.EXAMPLE", true},
		{"default port in the header", "https://a.example", "https://a.example:443", true},
		{"another port", "https://a.example", "https://a.example:8443", false},
		{"another scheme", "https://a.example", "http://a.example", false},
		{"below", "https://a.example", "https://x.a.example", false},
		{"a longer name", "https://a.example", "https://a.example.evil.example", false},
		{"in Unicode", "https://münchen.example", "https://xn--mnchen-3ya.example", true},
		{"an app", "capacitor://localhost", "capacitor://localhost", true},
		{"another app", "capacitor://localhost", "tauri://localhost", false},
		{"opaque", "null", "null", true},
		{"opaque, not listed", "https://a.example", "null", false},
		{"nonsense", "https://a.example", "https://a.example https://a.example", false},
		{"wildcard", "https://*.example.org", "https://x.example.org", true},
		{"wildcard, deeper", "https://*.example.org", "https://y.x.example.org", true},
		{"wildcard, the domain itself", "https://*.example.org", "https://example.org", false},
		{"wildcard, another domain", "https://*.example.org", "https://evilexample.org", false},
		{"wildcard, domain as a label", "https://*.example.org", "https://x.example.org.evil.example", false},
		{"wildcard, another scheme", "https://*.example.org", "http://x.example.org", false},
		{"wildcard, another port", "https://*.example.org", "https://x.example.org:8443", false},
		{"wildcard with a port", "https://*.example.org:8443", "https://x.example.org:8443", true},
		{"wildcard, no name", "https://*.example.org", "https://.example.org", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			list, err := ParseList(strings.Fields(row.list)...)
			if err != nil {
				t.Fatal(err)
			}
			if got := list.Allows(row.origin); got != row.want {
				t.Errorf("%q allows %q: %v", list, row.origin, got)
			}
		})
	}
}

func TestParseListRefusals(t *testing.T) {
	for _, entry := range []string{"https://*.org", "https://*.co.uk", "https://*.github.io", "https://*.", "https://*.[::1]", "https://*.*.example.org", "*.example.org", "nonsense"} {
		t.Run(entry, func(t *testing.T) {
			if list, err := ParseList("https://a.example", entry); !errors.Is(err, errs.ErrInvalid) || list.String() != "" {
				t.Errorf("got %q %v", list, err)
			}
		})
	}
}

func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{"https://a.example:443/", "capacitor://localhost", "null", "https://[::1]:8443", "https://münchen.example", "file://", "https://*.example.org"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once, err := Canonical(s)
		if err != nil {
			return
		}
		if again, err := Canonical(once); err != nil || again != once {
			t.Fatalf("%q becomes %q, then %q %v", s, once, again, err)
		}
		list, err := ParseList(s)
		if err != nil || !list.Allows(s) || !list.Allows(once) {
			t.Fatalf("%q is not in a list of itself: %v", s, err)
		}
	})
}
