package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// forwardUpgrade is what every WebSocket needs of nginx. All else is nginx's default:
// the upstream's name as Host, and no word of the client.
const forwardUpgrade = `proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";`

// appendClient names the client as nginx's manual does: behind what the client sent.
const appendClient = `proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;`

const nginxConfig = `daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server {
		listen 127.0.0.1:%[2]d;
		location / { proxy_pass http://127.0.0.1:%[3]d; %[4]s }
	}
}
`

// startNginx starts a proxy before the server and returns its host and port.
func startNginx(t *testing.T, s *server, directives string) string {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx"
	}
	if _, err := os.Stat(program); err != nil {
		t.Skip("NOT TESTED: nginx is not installed, run e2e/setup")
	}
	folder, port := shortFolder(t), freePort(t)
	config := filepath.Join(folder, "nginx.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, nginxConfig, folder, port, s.port, directives), 0o600); err != nil {
		t.Fatal(err)
	}
	log := new(output)
	cmd := exec.CommandContext(t.Context(), program, "-p", folder, "-c", config)
	cmd.Stderr = log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Wait() // the test's context has ended
		if t.Failed() {
			t.Logf("nginx:\n%s", log.tail(20))
		}
	})
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	eventually(t, startTimeout, func() error {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			return fmt.Errorf("nginx: %w\n%s", err, log.tail(5))
		}
		return conn.Close()
	})
	return address
}

// dialAt opens a socket at an address with headers, from a local address, and
// returns the HTTP status: 101 for an open socket, which ends with the test.
func dialAt(t *testing.T, address, local, query string, header http.Header) (status int) {
	t.Helper()
	dialer := websocket.Dialer{HandshakeTimeout: answerTimeout}
	if local != "" {
		dialer.NetDialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}).DialContext
	}
	conn, response, err := dialer.DialContext(t.Context(), "ws://"+address+"/socket"+query, header)
	if response == nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = response.Body.Close()
		if conn != nil {
			_ = conn.Close()
		}
	})
	return response.StatusCode
}

// production is a server as one would deploy it.
func production(t *testing.T, env map[string]string) *server {
	t.Helper()
	all := map[string]string{"NODE_ENV": "production"}
	maps.Copy(all, env)
	return startServer(t, settings{main: newMainServer(t), env: all})
}

// foreignPage opens a page of an origin that has nothing to do with the server.
func foreignPage(t *testing.T) (page *tab, origin string) {
	t.Helper()
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><title>app</title>"))
	}))
	t.Cleanup(site.Close)
	origin = strings.Replace(site.URL, "127.0.0.1", "localhost", 1)
	return lab.shared(t, chromium).open(t, origin), origin
}

// openSocket opens a socket in a page and returns the type of the message that says
// how it went, "connected" or "error", or how the socket closed.
func (p *tab) openSocket(t *testing.T, address string) string {
	t.Helper()
	var got string
	p.mustEval(t, fmt.Sprintf(`return await new Promise((resolve) => {
		const socket = new WebSocket('ws://%s/socket?auth=a+b/c==&channelId=c');
		socket.onmessage = ({ data }) => {
			const { type } = JSON.parse(data);
			if (type === 'connected' || type === 'error') { resolve(type); socket.close(); }
		};
		socket.onclose = ({ code }) => resolve('closed ' + code);
	})`, address), &got)
	return got
}

// TestBehindNginx opens sockets in a browser through nginx as it comes.
func TestBehindNginx(t *testing.T) {
	s := production(t, nil)
	address := startNginx(t, s, forwardUpgrade)
	page, _ := foreignPage(t)
	if got := page.openSocket(t, address); got != "connected" {
		t.Errorf("the page's socket: %s", got)
	}
	s.settings.main.mu.Lock()
	if asked := s.settings.main.asked; len(asked) == 0 || asked[0] != "a+b/c==" {
		t.Errorf("the main server was asked with %q", asked)
	}
	s.settings.main.mu.Unlock()
	for _, origin := range []string{"", "null", "capacitor://localhost", "https://evil.example"} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		if status := dialAt(t, address, "", "?auth=u&channelId=c", header); status != http.StatusSwitchingProtocols {
			t.Errorf("origin %q gets status %d", origin, status)
		}
	}
}

// TestOriginsBehindNginx configures a list: it is enforced, and the log says whom it
// has refused.
func TestOriginsBehindNginx(t *testing.T) {
	page, origin := foreignPage(t)
	s := production(t, map[string]string{"DSPEAK_ORIGINS": "capacitor://localhost, null, https://App.example.org:443/"})
	address := startNginx(t, s, forwardUpgrade)
	if got := page.openSocket(t, address); got != "closed 1006" {
		t.Errorf("the page's socket: %s", got)
	}
	for _, want := range []string{"origin refused", origin, "https://app.example.org", "DSPEAK_ORIGINS"} {
		eventually(t, answerTimeout, s.logs(want))
	}
	for origin, want := range map[string]int{
		"capacitor://localhost": http.StatusSwitchingProtocols, "null": http.StatusSwitchingProtocols,
		"https://app.example.org": http.StatusSwitchingProtocols, "http://app.example.org": http.StatusForbidden,
		"http://" + address: http.StatusForbidden, s.url("http"): http.StatusForbidden,
	} {
		if status := dialAt(t, address, "", "?auth=u&channelId=c", http.Header{"Origin": {origin}}); status != want {
			t.Errorf("origin %q gets status %d, want %d", origin, status, want)
		}
	}

	listed := production(t, map[string]string{"DSPEAK_ORIGINS": origin})
	if got := page.openSocket(t, startNginx(t, listed, forwardUpgrade)); got != "connected" {
		t.Errorf("the listed page's socket: %s", got)
	}
}

// TestLimitsBehindNginx names somebody else's address in X-Forwarded-For, which nginx
// appends to: the limit is that of the client itself.
func TestLimitsBehindNginx(t *testing.T) {
	const client, victim, limit = "127.0.0.5", "127.0.0.6", 2
	s := production(t, map[string]string{
		"DSPEAK_TRUSTED_PROXIES": "127.0.0.1", "DSPEAK_CONNECTIONS_PER_ADDRESS": strconv.Itoa(limit),
	})
	address := startNginx(t, s, forwardUpgrade+appendClient)
	forged := http.Header{"X-Forwarded-For": {victim, "127.0.0.1"}, "X-Real-IP": {victim}}
	for range limit {
		if status := dialAt(t, address, client, "?auth=u&channelId=c", forged); status != http.StatusSwitchingProtocols {
			t.Fatalf("status %d", status)
		}
	}
	if status := dialAt(t, address, client, "?auth=u&channelId=c", forged); status != http.StatusTooManyRequests {
		t.Errorf("one more of the client gets status %d", status)
	}
	for range limit {
		if status := dialAt(t, address, victim, "?auth=v&channelId=c", nil); status != http.StatusSwitchingProtocols {
			t.Errorf("the named address gets status %d", status)
		}
	}
}

// TestUntrustedNginx trusts no proxy: all have its address, and the log says what to set.
func TestUntrustedNginx(t *testing.T) {
	s := production(t, map[string]string{"DSPEAK_CONNECTIONS_PER_ADDRESS": "1"})
	address := startNginx(t, s, forwardUpgrade+appendClient)
	dialAt(t, address, "127.0.0.5", "?auth=u&channelId=c", nil)
	if status := dialAt(t, address, "127.0.0.6", "?auth=u&channelId=c", nil); status != http.StatusTooManyRequests {
		t.Errorf("status %d", status)
	}
	eventually(t, answerTimeout, s.logs("DSPEAK_TRUSTED_PROXIES")) // the setting that helps
}

// TestSocketURLBehindNginx asks without an upgrade where the socket is.
func TestSocketURLBehindNginx(t *testing.T) {
	const public = "wss://voice.example.org/voice/socket"
	told := func(address, host string) (string, error) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/socket?auth=u&channelId=c", nil)
		if err != nil {
			return "", err
		}
		request.Host = host
		transport := &http.Transport{DisableKeepAlives: true}
		response, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			return "", err
		}
		defer func() { _ = response.Body.Close() }()
		var body struct{ WebsocketURL string }
		err = json.NewDecoder(response.Body).Decode(&body)
		if response.StatusCode != http.StatusUpgradeRequired {
			err = errors.Join(err, fmt.Errorf("status %d: %w", response.StatusCode, errMissing))
		}
		return body.WebsocketURL, err
	}
	s := production(t, map[string]string{"DSPEAK_TRUSTED_PROXIES": "127.0.0.1"})
	named := production(t, map[string]string{"DSPEAK_PUBLIC_URL": public})
	const forwardNames = `proxy_set_header X-Forwarded-Host $host; proxy_set_header X-Forwarded-Proto https;`
	for _, row := range []struct {
		name       string
		server     *server
		directives string
		want       string
	}{
		{"the proxy keeps the name", s, forwardUpgrade + `proxy_set_header Host $host;`, "ws://voice.example.org/socket"},
		{"the proxy tells name and scheme", s, forwardUpgrade + forwardNames, "wss://voice.example.org/socket"},
		{"the setting names it", named, forwardUpgrade, public},
		{"no upgrade is forwarded", named, "", public},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := told(startNginx(t, row.server, row.directives), "voice.example.org")
			if err != nil || got != row.want {
				t.Errorf("told %q %v, want %q", got, err, row.want)
			}
		})
	}
}
