package config

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/dspeak/sfu/internal/errs"
)

// load runs Load with a file's text, variables and arguments.
func load(t *testing.T, file string, environ, args []string) (Config, error) {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(fs)
	if file != "" {
		path := filepath.Join(t.TempDir(), "dspeak.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return Load(fs, append(environ, "PATH=/bin", "DISPLAY"))
}

func TestBind(t *testing.T) {
	c, err := load(t, "media: {bind: [192.0.2.1, \"2001:db8::1\"]}\n", []string{"DSPEAK_RUN_DIR=/run/x"}, nil)
	if want := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}; err != nil || !reflect.DeepEqual(c.Media.Bind, want) {
		t.Errorf("%v, %v", c.Media.Bind, err)
	}
}

func TestDefaults(t *testing.T) {
	c, err := load(t, "", []string{"DSPEAK_RUN_DIR=/run/x", "SFU_IPV4=", "DSPEAK_ORIGINS="}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Environment: Development, RunDir: "/run/x",
		HTTP: HTTP{Port: 8425},
		Signaling: Signaling{
			MessageBytes: 65536, Rate: 200, Burst: 4000, PendingRequests: 4000, SendQueue: 16384,
			WriteTimeout: 10 * time.Second, ValidationTimeout: 5 * time.Second,
			HeartbeatInterval: 15 * time.Second, HeartbeatTimeout: time.Minute, Grace: time.Minute, KickCooldown: time.Minute,
			Connections: 16384, ConnectionsPerAddress: 1024,
			AdmissionRate: 400, AdmissionBurst: 100, AdmissionQueue: 4096, AdmissionWait: 15 * time.Second,
		},
		Media: Media{
			Port: 12825, IPv4Port: 12825, IPv6Port: 12826, ResolveInterval: time.Minute,
			MaxWait: 6 * time.Millisecond, Segmentation: SegmentationAuto,
			Padding: PaddingAuto, BufferBytes: 4 << 20,
		},
		Interop: Interop{Timeout: 5 * time.Second, ICEServersInterval: 5 * time.Minute},
		Workers: Workers{Spare: true, OrphanTimeout: time.Minute, StopTimeout: 5 * time.Second, RestartBurst: 5},
		Log:     Log{Level: slog.LevelInfo, Format: "text"},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	if c.Production() || c.DefaultHost() != "localhost" {
		t.Errorf("%v %q", c.Production(), c.DefaultHost())
	}
}

// TestDeployment reads the variables of the running deployments.
func TestDeployment(t *testing.T) {
	c, err := load(t, "", []string{
		"PORT=9000", "NODE_ENV=production", "INTEROP_API_BASE_URL=https://api.example.org/", "SFU_PORT=20000",
		"SFU_IPV4=tunnel.example.org", "PLAYIT_PUBLIC_PORT=30000", "SFU_IPV6=2001:DB8::1", "SFU_IPV6_PORT=40000",
		"SFU_PREFERRED_FAMILY=ipv6", "SFU_HEARTBEAT_INTERVAL_MS=1000", "SFU_HEARTBEAT_MISS_THRESHOLD_MS=3000",
		"SFU_GRACE_MS=0", "SFU_KICK_COOLDOWN_MS=5000", "SFU_SOMETHING_OLD=1",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := c.Media
	if c.HTTP.Port != 9000 || m.Port != 20000 || m.IPv4 != "tunnel.example.org" || m.IPv4Port != 30000 ||
		m.IPv6 != "2001:db8::1" || m.IPv6Port != 40000 || m.PreferredFamily != FamilyIPv6 {
		t.Errorf("ports and addresses: %+v", c)
	}
	if c.Interop.APIBaseURL != "https://api.example.org" || c.Interop.WSBaseURL != "wss://api.example.org" {
		t.Errorf("main server: %+v", c.Interop)
	}
	s := c.Signaling
	if s.HeartbeatInterval != time.Second || s.HeartbeatTimeout != 3*time.Second || s.Grace != 0 || s.KickCooldown != 5*time.Second {
		t.Errorf("signaling: %+v", s)
	}
	if !c.Production() || c.DefaultHost() != "api.darelisme.my.id" {
		t.Errorf("%v %q", c.Production(), c.DefaultHost())
	}
	if filepath.Base(c.RunDir) != "run" || !filepath.IsAbs(c.RunDir) {
		t.Errorf("run directory %q", c.RunDir)
	}
}

func TestOrderOfSources(t *testing.T) {
	const file = `
http:
  port: 1001
  origins: [https://App.example.org, "http://localhost:3000/"]
  trusted_proxies: 10.0.0.0/8, ::1
media: {ipv4_port: 1002, playit_public_port: 1003}
log: {level: debug, format: json}
workers:
  count: 3
  spare: false
signaling:
`
	c, err := load(t, file, []string{"PORT=2001", "DSPEAK_WORKERS=4"}, []string{"--workers", "5"})
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTP.Port != 2001 || c.Workers.Count != 5 || c.Media.IPv4Port != 1002 || c.Workers.Spare || c.Log.Level != slog.LevelDebug || c.Log.Format != "json" {
		t.Errorf("got %+v", c)
	}
	if want := "https://app.example.org, http://localhost:3000"; c.HTTP.Origins.String() != want {
		t.Errorf("origins %v", c.HTTP.Origins)
	}
	if want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}; !reflect.DeepEqual(c.HTTP.TrustedProxies, want) {
		t.Errorf("proxies %v", c.HTTP.TrustedProxies)
	}
}

func TestOrigins(t *testing.T) {
	const list = "capacitor://localhost, tauri://localhost,app://- null\thttp://localhost:3000/ https://[::1]:8443 HTTPS://A.Example:443,https://*.example.org"
	c, err := load(t, "", []string{"DSPEAK_ORIGINS=" + list}, nil)
	if err != nil {
		t.Fatal(err)
	}
	const want = "capacitor://localhost, tauri://localhost, app://-, null, http://localhost:3000, https://[::1]:8443, https://a.example, https://*.example.org"
	if got := c.HTTP.Origins.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestPublicURL(t *testing.T) {
	for in, want := range map[string]string{
		"wss://sfu.example.org/voice/socket": "wss://sfu.example.org/voice/socket",
		"https://sfu.example.org/":           "wss://sfu.example.org/socket",
		"http://[::1]:8425":                  "ws://[::1]:8425/socket",
	} {
		c, err := load(t, "", []string{"DSPEAK_PUBLIC_URL=" + in}, nil)
		if err != nil || c.HTTP.PublicURL != want {
			t.Errorf("%s becomes %s, want %s: %v", in, c.HTTP.PublicURL, want, err)
		}
	}
}

func TestTrustedProxiesMapped(t *testing.T) {
	c, err := load(t, "", []string{"DSPEAK_TRUSTED_PROXIES=::ffff:10.1.2.3/104 ::ffff:192.0.2.1"}, nil)
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32")}
	if err != nil || !reflect.DeepEqual(c.HTTP.TrustedProxies, want) {
		t.Errorf("got %v, want %v: %v", c.HTTP.TrustedProxies, want, err)
	}
}

func TestFaults(t *testing.T) {
	for _, row := range []struct {
		name    string
		file    string
		environ []string
		args    []string
		holds   []string
	}{
		{"no number", "", []string{"SFU_PORT=twelve"}, nil, []string{"SFU_PORT", "media.port", `"twelve"`}},
		{"out of range", "", []string{"PORT=70000"}, nil, []string{"PORT", "70000"}},
		{"port zero", "", []string{"PORT=0"}, nil, []string{"PORT"}},
		{"a fraction of a worker", "", nil, []string{"--workers", "1.5"}, []string{"DSPEAK_WORKERS", "1.5"}},
		{
			"all at once", "http: {port: x}\n",
			[]string{"NODE_ENV=prod", "SFU_GRACE_MS=-1", "DSPEAK_SPARE=perhaps", "DSPEAK_MESSAGE_RATE=NaN"},
			nil,
			[]string{"PORT", "NODE_ENV", `"prod"`, "SFU_GRACE_MS", "DSPEAK_SPARE", "DSPEAK_MESSAGE_RATE"},
		},
		{"an unknown variable", "", []string{"DSPEAK_WROKERS=2"}, nil, []string{"DSPEAK_WROKERS", "unknown"}},
		{"an unknown empty variable", "", []string{"DSPEAK_WROKERS="}, nil, []string{"DSPEAK_WROKERS", "unknown"}},
		{"an unknown key", "http: {prot: 1}\nmedia: 7\n", nil, nil, []string{`"http.prot"`, `"media"`, "unknown"}},
		{"a section for a value", "http: {port: {a: 1}}\n", nil, nil, []string{"line 1", "http.port", "plain value"}},
		{"a value for a section", "http: 8425\n", nil, nil, []string{"line 1", `"http" is a section`, `"http.`}},
		{"a list for a section", "log:\n  - level\n", nil, nil, []string{"line 2", `"log" is a section`}},
		{"a list for one value", "run_dir: [/a, /b]\n", nil, nil, []string{"run_dir", "a plain value"}},
		{"a hole in a list", "http: {trusted_proxies: [10.0.0.1, ~]}\n", nil, nil, []string{"http.trusted_proxies"}},
		{"a key twice", "http: {port: 1}\nlog: {}\nhttp: {port: 2}\n", nil, nil, []string{"line 3", `"http"`, "line 1"}},
		{"a setting twice in its section", "http:\n  port: 1\n  port: 2\n", nil, nil, []string{"line 3", `"port"`, "line 2"}},
		{"a setting in two places", "http.port: 80\nhttp: {port: 81}\n", nil, nil, []string{"http.port is set twice", "line"}},
		{"a second document", "http: {port: 1}\n---\nhttp: {port: 2}\n", nil, nil, []string{"line 2", "second document"}},
		{"a second document after an empty one", "---\n# nothing\n---\nhttp: {port: 2}\n", nil, nil, []string{"second document"}},
		{"rubbish after the end", "log: {}\n...\n]\n", nil, nil, []string{"--config", "line"}},
		{"a tab", "http:\n\tport: 1\n", nil, nil, []string{"--config", "line 2"}},
		{"no UTF-8", "http: {host: \xff}\n", nil, nil, []string{"--config", "UTF-8"}},
		{"bytes", "run_dir: !!binary L3Zhcg==\n", nil, nil, []string{"run_dir", "plain value"}},
		{"itself", "http: &h {<<: *h}\n", nil, nil, []string{"--config"}},
		{"itself in a list", "http: {origins: &o [*o]}\n", nil, nil, []string{"http.origins"}},
		{"many aliases", "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b]\n", nil, nil, []string{`unknown key "a"`}},
		{"too long a file", "#" + strings.Repeat("x", maxFileBytes) + "\n", nil, nil, []string{"--config", "longer than"}},
		{"another base", "http: {port: 0x50}\n", nil, nil, []string{"PORT", "0x50"}},
		{"a list of lists", "http: {origins: [[x]]}\n", nil, nil, []string{"http.origins"}},
		{"no YAML", "http: [\n", nil, nil, []string{"--config"}},
		{"YAML that is a list", "- a\n", nil, nil, []string{"--config"}},
		{"no file", "", nil, []string{"--config", "/nonexistent.yaml"}, []string{"/nonexistent.yaml"}},
		{"a directory for a file", "", nil, []string{"--config", "/"}, []string{"--config"}},
		{"a device for a file", "", nil, []string{"--config", "/dev/zero"}, []string{"/dev/zero", "regular file"}},
		{"a quoted value", "", []string{`PORT="8425"`}, nil, []string{"PORT", "quotes"}},
		{"a byte order mark before a name", "", []string{"\ufeffPORT=8425"}, nil, []string{"PORT", "stray"}},
		{"a shell's word before a name", "", []string{"export SFU_PORT=8425"}, nil, []string{"SFU_PORT", "stray"}},
		{"a name to listen on", "", []string{"DSPEAK_HTTP_HOST=localhost"}, nil, []string{"DSPEAK_HTTP_HOST", "localhost", "IP address"}},
		{"a port in the address", "", []string{"DSPEAK_HTTP_HOST=127.0.0.1:80"}, nil, []string{"DSPEAK_HTTP_HOST", "PORT sets the port"}},
		{"a port after brackets", "", []string{"DSPEAK_HTTP_HOST=[::1]:80"}, nil, []string{"DSPEAK_HTTP_HOST", "PORT sets the port"}},
		{"a star to listen on", "", []string{"DSPEAK_HTTP_HOST=*"}, nil, []string{"DSPEAK_HTTP_HOST", "without a value"}},
		{"a network to listen on", "", []string{"DSPEAK_HTTP_HOST=10.0.0.0/8"}, nil, []string{"DSPEAK_HTTP_HOST"}},
		{"a group to listen on", "", []string{"DSPEAK_HTTP_HOST=224.0.0.1"}, nil, []string{"DSPEAK_HTTP_HOST"}},
		{"a link-local address to listen on", "", []string{"DSPEAK_HTTP_HOST=fe80::1"}, nil, []string{"DSPEAK_HTTP_HOST", "interface"}},
		{"an IPv6 literal for IPv4", "", []string{"SFU_IPV4=2001:db8::1"}, nil, []string{"SFU_IPV4", "2001:db8::1", "announce it with SFU_IPV6"}},
		{"an IPv4 literal for IPv6", "", []string{"SFU_IPV6=192.0.2.1"}, nil, []string{"SFU_IPV6", "announce it with SFU_IPV4"}},
		{"a mapped IPv4 literal for IPv6", "", []string{"SFU_IPV6=::ffff:192.0.2.1"}, nil, []string{"SFU_IPV6", "announce it with SFU_IPV4"}},
		{"an announced address with a port", "", []string{"SFU_IPV4=192.0.2.1:4000"}, nil, []string{"SFU_IPV4", "SFU_IPV4_PORT sets"}},
		{"an announced name with a port", "", []string{"SFU_IPV6=voice.example.org:4000"}, nil, []string{"SFU_IPV6", "SFU_IPV6_PORT sets"}},
		{"an announced group", "", []string{"SFU_IPV4=239.0.0.1", "SFU_IPV6=ff02::1"}, nil, []string{"SFU_IPV4", "SFU_IPV6"}},
		{"an announced link-local address", "", []string{"SFU_IPV6=fe80::1%eth0"}, nil, []string{"SFU_IPV6"}},
		{"all hosts announced", "", []string{"SFU_IPV4=255.255.255.255", "SFU_IPV6=::"}, nil, []string{"SFU_IPV4", "SFU_IPV6"}},
		{"one port for all", "", []string{"PORT=9000", "SFU_PORT=9000"}, nil, []string{"PORT", "9000", "SFU_PORT"}},
		{"the IPv6 port of the last worker", "", []string{"PORT=9004", "SFU_PORT=9000"}, []string{"--workers", "4"}, []string{"PORT", "9004", "SFU_PORT"}},
		{"the IPv6 port of the quarantine", "", []string{"PORT=9005", "SFU_PORT=9000"}, []string{"--workers", "4"}, []string{"PORT", "9005", "ipv6", "SFU_PORT"}},
		{"no port for the quarantine", "", []string{"SFU_PORT=65534"}, nil, []string{"SFU_PORT", "65536"}},
		{"a Kubernetes service named sfu", "", []string{"SFU_PORT=tcp://10.0.0.1:12825"}, nil, []string{"SFU_PORT", `"sfu"`, "enableServiceLinks: false"}},
		{"a Kubernetes service named sfu-ipv4", "", []string{"SFU_IPV4_PORT=udp://10.0.0.1:12825"}, nil, []string{"SFU_IPV4_PORT", `"sfu-ipv4"`, "enableServiceLinks: false"}},
		{"a link for the public port", "", []string{"PORT=tcp://[fd00::1]:8425"}, nil, []string{"PORT", "enableServiceLinks: false"}},
		{"a misspelt setting among service links", "", []string{"DSPEAK_SERVICE_HOST=10.0.0.1", "DSPEAK_PORT=tcp://10.0.0.1:1", "DSPEAK_WROKERS=2"}, nil, []string{"DSPEAK_WROKERS", "unknown"}},
		{"a name that looks like a link", "", []string{"DSPEAK_HTTP_PORT=8425"}, nil, []string{"DSPEAK_HTTP_PORT", "unknown"}},
		{"a value that is no link's", "", []string{"DSPEAK_PORT=http://10.0.0.1:1", "DSPEAK_SFU_PORT_80_TCP_ADDR=!", "DSPEAK_ENV_X=1"}, nil, []string{"DSPEAK_PORT", "DSPEAK_SFU_PORT_80_TCP_ADDR", "DSPEAK_ENV_X"}},
		{"production alone", "", []string{"NODE_ENV=production"}, nil, []string{"INTEROP_API_BASE_URL", "production"}},
		{"a socket without a server", "", []string{"INTEROP_WS_API_BASE_URL=ws://x"}, nil, []string{"INTEROP_WS_API_BASE_URL"}},
		{"no URL", "", []string{"INTEROP_API_BASE_URL=api.example.org"}, nil, []string{"INTEROP_API_BASE_URL", "http://"}},
		{"another scheme", "", []string{"INTEROP_API_BASE_URL=ftp://x"}, nil, []string{"INTEROP_API_BASE_URL"}},
		{"a socket URL of another scheme", "", []string{"INTEROP_API_BASE_URL=http://x", "INTEROP_WS_API_BASE_URL=http://x"}, nil, []string{"INTEROP_WS_API_BASE_URL"}},
		{"a URL without a host", "", []string{"INTEROP_API_BASE_URL=http://:80"}, nil, []string{"INTEROP_API_BASE_URL"}},
		{"a URL with a strange port", "", []string{"INTEROP_API_BASE_URL=http://x:99999"}, nil, []string{"INTEROP_API_BASE_URL"}},
		{"a wrong family", "", []string{"SFU_IPV4=::1", "SFU_IPV6=127.0.0.1"}, nil, []string{"SFU_IPV4", "SFU_IPV6"}},
		{"no host name", "", []string{"SFU_IPV4=a b", "SFU_IPV6=1.2.3.999"}, nil, []string{"SFU_IPV4", "SFU_IPV6"}},
		{"everywhere", "", []string{"SFU_IPV4=0.0.0.0"}, nil, []string{"SFU_IPV4"}},
		{"a strange family", "", []string{"SFU_PREFERRED_FAMILY=ipv5"}, nil, []string{"SFU_PREFERRED_FAMILY", "ipv4 or ipv6"}},
		{"no origin", "", []string{"DSPEAK_ORIGINS=https://a,example.org"}, nil, []string{"DSPEAK_ORIGINS", "example.org"}},
		{"an origin with a path", "", []string{"DSPEAK_ORIGINS=https://a/b"}, nil, []string{"DSPEAK_ORIGINS"}},
		{"an origin of a socket", "", []string{"DSPEAK_ORIGINS=wss://a.example"}, nil, []string{"DSPEAK_ORIGINS", "capacitor://localhost"}},
		{"a wildcard for everybody", "", []string{"DSPEAK_ORIGINS=https://*.org"}, nil, []string{"DSPEAK_ORIGINS", "https://*.example.org"}},
		{"a public URL without a scheme", "", []string{"DSPEAK_PUBLIC_URL=sfu.example.org"}, nil, []string{"DSPEAK_PUBLIC_URL", "wss://"}},
		{"bind to a name", "", []string{"DSPEAK_MEDIA_BIND=localhost"}, nil, []string{"DSPEAK_MEDIA_BIND"}},
		{"bind to all and more", "", []string{"DSPEAK_MEDIA_BIND=192.0.2.1,0.0.0.0"}, nil, []string{"DSPEAK_MEDIA_BIND"}},
		{"bind twice", "", []string{"DSPEAK_MEDIA_BIND=192.0.2.1,::ffff:192.0.2.1"}, nil, []string{"DSPEAK_MEDIA_BIND", "once"}},
		{"bind to a link", "", []string{"DSPEAK_MEDIA_BIND=fe80::1%eth0"}, nil, []string{"DSPEAK_MEDIA_BIND"}},
		{"bind to a port", "", []string{"DSPEAK_MEDIA_BIND=192.0.2.1:80"}, nil, []string{"DSPEAK_MEDIA_BIND"}},
		{"bind to too many", "", []string{"DSPEAK_MEDIA_BIND=::1,::2,::3,::4,::5,::6,::7,::8,::9"}, nil, []string{"DSPEAK_MEDIA_BIND", "8"}},
		{"no network", "", []string{"DSPEAK_TRUSTED_PROXIES=10.0.0.0/99"}, nil, []string{"DSPEAK_TRUSTED_PROXIES"}},
		{"no duration", "", []string{"DSPEAK_WRITE_TIMEOUT=5"}, nil, []string{"DSPEAK_WRITE_TIMEOUT"}},
		{"too long a wait", "", []string{"DSPEAK_MEDIA_MAX_WAIT=1s"}, nil, []string{"DSPEAK_MEDIA_MAX_WAIT"}},
		{"no level", "", []string{"DSPEAK_LOG_LEVEL=loud", "DSPEAK_LOG_FORMAT=xml"}, nil, []string{"DSPEAK_LOG_LEVEL", "DSPEAK_LOG_FORMAT"}},
		{"impatience", "", []string{"SFU_HEARTBEAT_MISS_THRESHOLD_MS=100"}, nil, []string{"SFU_HEARTBEAT_MISS_THRESHOLD_MS", "SFU_HEARTBEAT_INTERVAL_MS"}},
		{"no room for ports", "", []string{"SFU_PORT=65530"}, []string{"--workers", "6"}, []string{"SFU_PORT", "65537"}},
		{"no room for announced ports", "", []string{"SFU_IPV4_PORT=65535"}, []string{"--workers", "2"}, []string{"SFU_IPV4_PORT"}},
		{"a run directory too deep", "", []string{"DSPEAK_RUN_DIR=/" + strings.Repeat("x", 100)}, nil, []string{"DSPEAK_RUN_DIR", "too long"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, err := load(t, row.file, row.environ, row.args)
			if err == nil {
				t.Fatalf("accepted: %+v", c)
			}
			text := err.Error()
			if strings.Contains(text, "\n") {
				t.Errorf("more than one line: %q", text)
			}
			for _, want := range row.holds {
				if !strings.Contains(text, want) {
					t.Errorf("%q does not hold %q", text, want)
				}
			}
		})
	}
}

func TestFaultsKeepSecrets(t *testing.T) {
	for _, url := range []string{"http://user:secret@x", "http://x/?token=secret", "http://x/#secret", "http://user:secret@[::1"} {
		_, err := load(t, "", []string{"INTEROP_API_BASE_URL=" + url}, nil)
		if !errors.Is(err, errs.ErrInvalid) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v", err)
		}
	}
}

// TestOptions holds what a table of the settings relies on.
func TestOptions(t *testing.T) {
	seen := map[string]bool{}
	for _, o := range Options() {
		for _, name := range []string{o.Name, o.Env, "--" + o.Flag} {
			if name != "--" && seen[name] {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
		}
		if o.Name == "" || o.Env == "" || o.Help == "" || strings.ContainsAny(o.Help, "|\n") {
			t.Errorf("%+v is not described", o)
		}
		var c Config
		if err := o.set(&c, "\x00"); err == nil {
			t.Errorf("%s takes anything", o.Name)
		}
		if o.Default != "" {
			if err := o.set(&c, o.Default); err != nil {
				t.Errorf("the default of %s: %v", o.Name, err)
			}
		}
	}
}
