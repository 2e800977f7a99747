package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/pflag"
)

// TestFilesThatAreFine reads files as people and their editors write them.
func TestFilesThatAreFine(t *testing.T) {
	for name, file := range map[string]string{
		"empty":                      "",
		"comments":                   "# http: {port: 1}\n",
		"nothing":                    "~\n",
		"an empty document":          "---\n",
		"sections without settings":  "http:\nlog: {}\nmedia: ~\n",
		"no value":                   "http: {port: ~, host: '', origins: []}\nrun_dir:\n",
		"an end mark":                "http: {}\n...\n",
		"a directive":                "%YAML 1.1\n---\nhttp: {}\n",
		"a decimal with a zero":      "http: {port: 08425}\n",
		"Windows":                    "\ufeffhttp:\r\n  port: 8425\r\n",
		"blanks":                     "http:\n  port: '  8425 '\n",
		"a file that is merged with": "http: &base {port: 8425}\nlog: {level: info}\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := load(t, file, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			want, err := load(t, "", nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(c, want) {
				t.Errorf("got  %+v\nwant %+v", c, want)
			}
		})
	}
}

func TestMergedSections(t *testing.T) {
	c, err := load(t, "signaling: {rate: 7, burst: 50}\nworkers:\n  <<: {count: 3, spare: false}\n  count: 4\n", nil, nil)
	if err != nil || c.Workers.Count != 4 || c.Workers.Spare || c.Signaling.Rate != 7 {
		t.Fatalf("%v %+v", err, c)
	}
}

// TestFIFOForAFile must not wait for a writer.
func TestFIFOForAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := load(t, "", nil, []string{"--config", path}); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Fatal(err)
	}
}

// TestSurroundingBlanks has values as Docker reads them from a file with Windows line ends.
func TestSurroundingBlanks(t *testing.T) {
	c, err := load(t, "", []string{
		"PORT=9000\r", "NODE_ENV= production \r", "INTEROP_API_BASE_URL=https://api.example.org\r", "SFU_IPV4=\t192.0.2.1 ", "SFU_IPV6=\r",
		"DSPEAK_ORIGINS= https://a.example.org,\r", "DSPEAK_HTTP_HOST=[::1]\r", "DSPEAK_WORKERS=3\r",
	}, []string{"--workers", " 2 "})
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTP.Port != 9000 || !c.Production() || c.Media.IPv4 != "192.0.2.1" || c.Media.IPv6 != "" || c.HTTP.Origins.String() != "https://a.example.org" ||
		c.HTTP.Host != "::1" || c.Workers.Count != 2 {
		t.Errorf("%+v", c)
	}
}

// TestServiceLinks has the variables of services and containers whose names begin with
// dspeak, and of others.
func TestServiceLinks(t *testing.T) {
	var environ []string
	for _, service := range []string{"DSPEAK", "DSPEAK_SFU", "DSPEAK_WORKERS", "DSPEAK_SEND_QUEUE", "DSPEAK_PORT_80_TCP", "DSPEAK_SERVICE"} {
		for _, suffix := range []string{
			"SERVICE_HOST=10.0.0.1", "SERVICE_PORT=8425", "SERVICE_PORT_HTTP=8425", "SERVICE_PORT_MEDIA_UDP=12825",
			"PORT=tcp://10.0.0.1:8425", "PORT_8425_TCP=tcp://10.0.0.1:8425", "PORT_8425_TCP_PROTO=tcp", "PORT_8425_TCP_PORT=8425",
			"PORT_8425_TCP_ADDR=10.0.0.1", "PORT_12825_UDP=udp://10.0.0.1:12825", "PORT_12825_UDP_PROTO=udp", "PORT_12825_UDP_PORT=12825",
			"PORT_12825_UDP_ADDR=fd00::1", "PORT_9_SCTP=sctp://[fd00::1]:9",
			"NAME=/web/sfu", "ENV_PATH=/bin", "ENV_ANYTHING=", "PORT_80_TCP_START=tcp://172.17.0.2:80", "PORT_80_TCP_PORT_END=90",
		} {
			environ = append(environ, service+"_"+suffix)
		}
	}
	c, err := load(t, "", append(environ, "DSPEAK_WORKERS=2", "REDIS_PORT=tcp://10.0.0.2:6379", "SFU_SERVICE_HOST=10.0.0.3"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Workers.Count != 2 || c.HTTP.Port != 8425 {
		t.Errorf("%+v", c)
	}
}

// TestNoSettingIsAServiceLink holds for every setting, whatever its value.
func TestNoSettingIsAServiceLink(t *testing.T) {
	for _, o := range Options() {
		for _, value := range []string{"10.0.0.1", "8425", "tcp"} {
			if newServiceLinks(nil).include(o.Env, value) {
				t.Errorf("%s=%s counts as a service link", o.Env, value)
			}
		}
		_, err := load(t, "", []string{o.Env + "=tcp://10.0.0.1:8425"}, nil)
		if err == nil || !strings.Contains(err.Error(), "enableServiceLinks") || !strings.Contains(err.Error(), o.Env) {
			t.Errorf("%s: %v", o.Env, err)
		}
	}
}

func TestAnnouncedLiterals(t *testing.T) {
	c, err := load(t, "", []string{"SFU_IPV4=::ffff:192.0.2.1", "SFU_IPV6=[2001:DB8::1]"}, nil)
	if err != nil || c.Media.IPv4 != "192.0.2.1" || c.Media.IPv6 != "2001:db8::1" {
		t.Fatalf("%v %+v", err, c.Media)
	}
}

func TestAnnounceable(t *testing.T) {
	for addr, want := range map[string]bool{
		"192.0.2.1": true, "10.0.0.1": true, "127.0.0.1": true, "169.254.1.1": true, "2001:db8::1": true, "fd00::1": true, "::1": true,
		"0.0.0.0": false, "::": false, "224.0.0.1": false, "255.255.255.255": false, "fe80::1": false, "2001:db8::1%eth0": false, "ff02::1": false,
	} {
		if got := Announceable(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

// TestPortsApart compares CheckPorts with what the kernel would refuse.
func TestPortsApart(t *testing.T) {
	for _, row := range []struct {
		host        string
		port, media int
		workers     int
		fine        bool
		bind        []string
	}{
		{"", 8424, 8425, 1, true, nil},
		{"", 8425, 8425, 1, false, nil},
		{"", 8426, 8425, 1, false, nil},
		{"", 8427, 8425, 1, false, nil}, // IPv6 of the quarantine
		{"", 8428, 8425, 1, true, nil},
		{"127.0.0.1", 8427, 8425, 1, true, nil},
		{"127.0.0.1", 8426, 8425, 1, false, nil},
		{"0.0.0.0", 8427, 8425, 1, true, nil},
		{"::1", 8425, 8425, 1, true, nil},
		{"::1", 8427, 8425, 1, false, nil},
		{"::", 8425, 8425, 1, false, nil},
		{"", 8425, 8400, 23, true, nil},
		{"", 8425, 8400, 24, false, nil},
		{"", 8425, 8425, 1, false, []string{"192.0.2.1"}},
		{"", 8427, 8425, 1, true, []string{"192.0.2.1"}}, // IPv6 is not bound
		{"192.0.2.1", 8425, 8425, 1, false, []string{"192.0.2.2", "192.0.2.1"}},
		{"192.0.2.3", 8425, 8425, 1, true, []string{"192.0.2.2", "192.0.2.1"}},
		{"0.0.0.0", 8426, 8425, 1, true, []string{"2001:db8::1"}},
		{"0.0.0.0", 8426, 8425, 1, false, []string{"2001:db8::1", "192.0.2.1"}},
	} {
		c := Config{HTTP: HTTP{Host: row.host, Port: row.port}, Media: Media{Port: row.media, IPv4Port: row.media, IPv6Port: row.media + 1}}
		for _, addr := range row.bind {
			c.Media.Bind = append(c.Media.Bind, netip.MustParseAddr(addr))
		}
		if err := c.CheckPorts(row.workers); (err == nil) != row.fine {
			t.Errorf("%+v: %v", row, err)
		}
	}
}

func FuzzLoadFile(f *testing.F) {
	for _, seed := range []string{
		"http: {port: 8425, origins: [https://a, https://b], trusted_proxies: 10.0.0.0/8}\n",
		"media:\n  ipv4: 203.0.113.1\n  ipv4_port: 4000\n  preferred_family: ipv4\n",
		"environment: production\ninterop: {api_base_url: https://api.example.org}\n",
		"signaling: {rate: 1.5, write_timeout: 5s, grace_ms: 0}\nworkers: {count: 2, spare: yes}\n",
		"run_dir: ~\nlog: {}\n", "a: &a [*a]\n", "? {a: b}\n: c\n", "1: 2\nhttp: {1: 2, true: 3}\n", "http: 2020-01-01\n", "http.port: 80\nhttp: {port: 81}\n",
		"http: &h {<<: *h}\n", "http: &h {origins: [*h, *h]}\nlog: *h\n", "---\n---\n", "http: {<<: [{port: 1}, {port: 2}]}\n", "\ufeffhttp:\r\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
		AddFlags(fs)
		if err := fs.Parse([]string{"--config", path}); err != nil {
			t.Fatal(err)
		}
		c, err := Load(fs, nil)
		if err == nil && (c.HTTP.Port < 1 || c.CheckPorts(max(c.Workers.Count, 1)) != nil) {
			t.Fatalf("accepted %+v", c)
		}
	})
}

// FuzzEnviron: a variable of the service's prefix is a setting, a service link or a fault,
// and nothing else.
func FuzzEnviron(f *testing.F) {
	for _, seed := range []string{
		"DSPEAK_SFU_PORT=tcp://10.0.0.1:8425", "DSPEAK_WROKERS=2", "DSPEAK_SERVICE_PORT=1\r", "DSPEAK__SERVICE_=", "DSPEAK_PORT_1_TCP_PORT=1", "DSPEAK_WORKERS= 3",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, entry string) {
		if !strings.Contains(entry, "=") {
			return
		}
		fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
		AddFlags(fs)
		_, err := Load(fs, []string{entry})
		name, value, _ := strings.Cut(entry, "=")
		known := false
		for _, o := range Options() {
			known = known || o.Env == name
		}
		if strings.HasPrefix(name, envPrefix) && !known && !newServiceLinks([]string{entry}).include(name, value) && err == nil {
			t.Fatalf("%q is ignored", entry)
		}
	})
}
