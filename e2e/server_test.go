package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 30 * time.Second
	grace        = 4 * time.Second // of a session, in all tests
)

// settings of a server under test.
type settings struct {
	env     map[string]string
	args    []string
	workers int        // 1 when zero
	space   *namespace // nil: the machine's own
	main    *mainServer
	manager *manager // nil: none
	frail   bool     // its workers panic
	host    string   // of the URLs, 127.0.0.1 when empty
	program string   // supervisor in use, that of bin when empty
	// late is called once the server was started, before it is waited for.
	late   func(*server)
	stderr *os.File // of the supervisor; nil: its log is kept
}

// server is a running supervisor with its workers.
type server struct {
	runDir   string
	host     string
	port     int
	media    int // first media port
	settings settings
	cmd      *exec.Cmd
	log      *output
	exited   chan struct{}
	exitErr  error // read after exited is closed
}

// startServer returns when the server serves. It is stopped with the test, and
// must then leave nothing behind.
func startServer(t *testing.T, set settings) *server {
	t.Helper()
	set.workers = max(set.workers, 1)
	set.host = firstOf(set.host, "127.0.0.1")
	s := &server{settings: set, host: set.host, port: freePort(t), log: new(output), exited: make(chan struct{})}
	s.runDir = filepath.Join(shortFolder(t), "run")
	s.media = freeMediaPort(t, set.workers+2) // one for the quarantine, and IPv6 is one further
	s.start(t)
	t.Cleanup(func() { s.stop(t) })
	return s
}

func firstOf(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}

func (s *server) start(t *testing.T) {
	t.Helper()
	env := map[string]string{
		"PORT": strconv.Itoa(s.port), "SFU_PORT": strconv.Itoa(s.media), "DSPEAK_RUN_DIR": s.runDir,
		"SFU_GRACE_MS": strconv.FormatInt(grace.Milliseconds(), 10), "SFU_IPV4": "127.0.0.1", "SFU_IPV6": "::1",
	}
	if s.settings.main != nil {
		env["INTEROP_API_BASE_URL"] = s.settings.main.url()
	}
	maps.Copy(env, s.settings.env)
	args := append([]string{"--workers", strconv.Itoa(s.settings.workers)}, s.settings.args...)
	program := firstOf(s.settings.program, bin.supervisor)
	if m := s.settings.manager; m != nil {
		s.cmd = m.command(context.WithoutCancel(t.Context()), program, args...)
	} else {
		s.cmd = s.settings.space.command(context.WithoutCancel(t.Context()), program, args...)
	}
	s.cmd.Env = append(environment(env), s.cmd.Env...)
	s.cmd.Dir = filepath.Dir(s.runDir)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if s.settings.stderr != nil {
		s.cmd.Stdout, s.cmd.Stderr = s.settings.stderr, s.settings.stderr
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.exitErr = s.cmd.Wait()
		close(s.exited)
	}()
	if s.settings.late != nil {
		t.Cleanup(func() { _ = s.cmd.Process.Kill() }) // for a test that fails there
		s.settings.late(s)
	}
	err := waitFor(t.Context(), startTimeout, func() error { return s.healthy(t.Context()) })
	if err != nil {
		_ = s.cmd.Process.Kill()
		<-s.exited
		t.Fatalf("supervisor: %v\n%s", err, s.log.tail(40))
	}
}

// kill ends the supervisor as a crash does: its workers go on.
func (s *server) kill(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.exited
}

// again starts a supervisor after kill, and returns when it serves.
func (s *server) again(t *testing.T) {
	t.Helper()
	s.exited, s.exitErr = make(chan struct{}), nil
	s.start(t)
}

// environment is small, so that nothing of the machine's own settings counts.
func environment(env map[string]string) []string {
	list := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir(), "GORACE=halt_on_error=1 exitcode=66 atexit_sleep_ms=100"}
	for name, value := range env {
		if value != "" {
			list = append(list, name+"="+value)
		}
	}
	return list
}

func (s *server) healthy(ctx context.Context) error {
	select {
	case <-s.exited:
		return fmt.Errorf("it ended: %w", errors.Join(errEnded, s.exitErr))
	default:
	}
	status, _, err := s.get(ctx, "/health")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("health is %d", status)
	}
	return err
}

var errEnded = errors.New("the process ended")

// get reads a page of the server's HTTP port.
func (s *server) get(ctx context.Context, path string) (int, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url("http")+path, nil)
	if err != nil {
		return 0, "", err
	}
	transport := &http.Transport{DialContext: s.settings.space.dial, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

func (s *server) url(scheme string) string {
	return scheme + "://" + net.JoinHostPort(s.host, strconv.Itoa(s.port))
}

// socketURL is what clients dial.
func (s *server) socketURL() string { return s.url("ws") + "/socket" }

// stop ends the server as an operator does, and looks for what it left.
func (s *server) stop(t *testing.T) {
	t.Helper()
	s.terminate(t)
	nothingLeft(t, s.runDir)
	if text := s.log.String(); strings.Contains(text, "DATA RACE") || (strings.Contains(text, "panic:") && !s.settings.frail) {
		t.Error("a process had a data race or a panic")
	}
	if t.Failed() {
		t.Logf("supervisor's log:\n%s", s.log.tail(120))
	}
}

// terminate ends the supervisor, which must end well.
func (s *server) terminate(t *testing.T) {
	t.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-s.exited:
	case <-time.After(stopTimeout):
		_ = s.cmd.Process.Kill()
		<-s.exited
		t.Errorf("supervisor did not stop within %v", stopTimeout)
	}
	if s.exitErr != nil {
		t.Errorf("supervisor ended with %v", s.exitErr)
	}
}

// logs checks that the log holds a text. Lines reach it a moment after what they say.
func (s *server) logs(text string) func() error {
	return func() error {
		if !strings.Contains(s.log.String(), text) {
			return fmt.Errorf("the log does not hold %q: %w", text, errNotLogged)
		}
		return nil
	}
}

var errNotLogged = errors.New("not logged")

// nothingLeft fails the test when a process that was started beside the run directory, or
// a socket in it, is still there. It ends such processes.
func nothingLeft(t *testing.T, runDir string) {
	t.Helper()
	left := func() []string { return running(filepath.Dir(runDir)) }
	err := waitFor(context.Background(), 5*time.Second, func() error {
		if left := left(); len(left) > 0 {
			return fmt.Errorf("processes left: %v", left)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
		for _, process := range left() {
			if pid, err := strconv.Atoi(strings.Fields(process)[0]); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	entries, _ := os.ReadDir(runDir)
	for _, entry := range entries {
		t.Errorf("left in the run directory: %s", entry.Name())
	}
}

// shortFolder has a short name: a Unix socket's path has 108 bytes at most.
func shortFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "dspeak-") //nolint:usetesting // the test's own folder has the test's long name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

func portOf(t *testing.T, address net.Addr) int {
	t.Helper()
	parsed, err := netip.ParseAddrPort(address.String())
	if err != nil {
		t.Fatal(err)
	}
	return int(parsed.Port())
}

// freePort is a port that nobody else uses.
func freePort(t *testing.T) int {
	t.Helper()
	return freeMediaPort(t, 1)
}

// freeMediaPort is the first of n neighbouring ports that are free in both
// protocols and both families, and that no other test was given. It stays below the range
// of outgoing ports.
func freeMediaPort(t *testing.T, n int) int {
	t.Helper()
	for range 100 {
		first := 12000 + rand.IntN(18000)
		if lab.claim(first, n) && portsFree(t.Context(), first, n) {
			return first
		}
	}
	t.Fatal("no free ports")
	return 0
}

func portsFree(ctx context.Context, first, n int) bool {
	var config net.ListenConfig
	for port := first; port < first+n; port++ {
		for _, host := range []string{"127.0.0.1", "[::1]"} {
			address := host + ":" + strconv.Itoa(port)
			listener, err := config.Listen(ctx, "tcp", address)
			if err != nil {
				return false
			}
			_ = listener.Close()
			socket, err := config.ListenPacket(ctx, "udp", address)
			if err != nil {
				return false
			}
			_ = socket.Close()
		}
	}
	return true
}
