package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// lab has what tests share: browsers, because they start slowly, the sound
// server for them, and the folder with the test clients.
var lab = &laboratory{browsers: make(map[string]*browser), ports: make(map[int]struct{})}

type laboratory struct {
	mu       sync.Mutex
	last     int                 // guarded by mu
	browsers map[string]*browser // guarded by mu
	clients  string              // folder of the bundles; guarded by mu
	pulse    *exec.Cmd           // guarded by mu
	folder   string              // guarded by mu
	ports    map[int]struct{}    // guarded by mu: those that tests were given
}

// claim reports whether no test was given any of n neighbouring ports before.
func (l *laboratory) claim(first, n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for port := first; port < first+n; port++ {
		if _, taken := l.ports[port]; taken {
			return false
		}
	}
	for port := first; port < first+n; port++ {
		l.ports[port] = struct{}{}
	}
	return true
}

func (l *laboratory) next() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	return l.last
}

// shared is the machine's one browser of a kind.
func (l *laboratory) shared(t *testing.T, kind string) *browser {
	t.Helper()
	if testing.Short() {
		t.Skip("browsers are not for -short")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.browsers[kind]; b != nil {
		return b
	}
	b, err := startBrowser(kind, nil, l.pulseLocked(t))
	if err != nil {
		t.Fatal(err)
	}
	l.browsers[kind] = b
	return b
}

// own is a browser in a namespace, for one test.
func (l *laboratory) own(t *testing.T, kind string, space *namespace) *browser {
	t.Helper()
	if testing.Short() {
		t.Skip("browsers are not for -short")
	}
	l.mu.Lock()
	pulse := l.pulseLocked(t)
	l.mu.Unlock()
	b, err := startBrowser(kind, space, pulse)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	return b
}

// pulseLocked starts a sound server that plays into nothing: an AudioContext of
// Firefox runs only with a device.
func (l *laboratory) pulseLocked(t *testing.T) string {
	t.Helper()
	socket := filepath.Join(l.folderLocked(t), "pulse.sock")
	if l.pulse != nil {
		return "unix:" + socket
	}
	l.pulse = exec.CommandContext(context.Background(), "pulseaudio", "-n", "--exit-idle-time=-1", "--daemonize=no",
		"-L", "module-null-sink", "-L", "module-native-protocol-unix auth-anonymous=1 socket="+socket)
	l.pulse.Env = append(os.Environ(), "HOME="+l.folder, "XDG_RUNTIME_DIR="+l.folder, "PULSE_RUNTIME_PATH="+l.folder)
	if err := l.pulse.Start(); err != nil {
		l.pulse = nil
		t.Fatalf("pulseaudio, run e2e/setup: %v", err)
	}
	eventually(t, 20*time.Second, func() error {
		_, err := os.Stat(socket)
		return err
	})
	return "unix:" + socket
}

func (l *laboratory) folderLocked(t *testing.T) string {
	t.Helper()
	if l.folder == "" {
		folder, err := os.MkdirTemp("", "dspeak-lab-") //nolint:usetesting // all tests share it
		if err != nil {
			t.Fatal(err)
		}
		l.folder = folder
	}
	return l.folder
}

// bundles builds the test clients once.
func (l *laboratory) bundles(t *testing.T) string {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.clients == "" {
		folder := filepath.Join(l.folderLocked(t), "clients")
		cmd := exec.CommandContext(t.Context(), node(), "build.mjs", folder)
		cmd.Dir = "browser"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("bundle the test clients, is e2e/setup done? %v\n%s", err, out)
		}
		l.clients = folder
	}
	return l.clients
}

// pages serves a page for each test client and returns its address.
func (l *laboratory) pages(t *testing.T, space *namespace) string {
	t.Helper()
	files := http.FileServer(http.Dir(l.bundles(t)))
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, isPage := strings.CutSuffix(r.URL.Path, ".html")
		if !isPage {
			files.ServeHTTP(w, r)
			return
		}
		_, _ = fmt.Fprintf(w, "<!doctype html><title>test</title><link rel=icon href=data:,><script src=%q></script>", client+".js")
	})
	listener, err := space.listen(t.Context(), "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return fmt.Sprintf("http://localhost:%d", portOf(t, listener.Addr()))
}

// close ends what is shared. It is for TestMain.
func (l *laboratory) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.browsers {
		b.close()
	}
	if l.pulse != nil {
		_ = l.pulse.Process.Kill()
		_ = l.pulse.Wait()
	}
	if l.folder != "" {
		_ = os.RemoveAll(l.folder)
	}
}
