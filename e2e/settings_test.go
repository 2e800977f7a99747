package e2e

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// The supervisor's exit codes.
const (
	codeFailure     = 1
	codeBadSettings = 78
)

// TestBadSettings has settings that --check and the start refuse alike: one line, and the
// exit code after which a service manager does not try again.
func TestBadSettings(t *testing.T) {
	media := freeMediaPort(t, 4)
	first := strconv.Itoa(media)
	for _, row := range []struct {
		name  string
		env   map[string]string
		file  string
		args  []string
		code  int // codeBadSettings when zero
		holds []string
	}{
		{name: "one port for HTTP and media", env: map[string]string{"PORT": first, "SFU_PORT": first}, holds: []string{"PORT", "SFU_PORT", first}},
		{
			name: "HTTP on the IPv6 port of the quarantine", env: map[string]string{"PORT": strconv.Itoa(media + 2), "SFU_PORT": first},
			holds: []string{"PORT", "SFU_PORT", strconv.Itoa(media + 2)},
		},
		{name: "ports past the last", env: map[string]string{"SFU_PORT": "65535"}, holds: []string{"SFU_PORT", "65535"}},
		{name: "announced ports past the last", env: map[string]string{"SFU_IPV6_PORT": "65535"}, holds: []string{"SFU_IPV6_PORT"}},
		{name: "a name to listen on", env: map[string]string{"DSPEAK_HTTP_HOST": "localhost"}, holds: []string{"DSPEAK_HTTP_HOST", "localhost"}},
		{name: "an address with a port to listen on", env: map[string]string{"DSPEAK_HTTP_HOST": "127.0.0.1:80"}, holds: []string{"DSPEAK_HTTP_HOST", "PORT"}},
		{
			name: "an address of elsewhere", env: map[string]string{"DSPEAK_HTTP_HOST": "203.0.113.9"}, code: codeFailure, // it may come
			holds: []string{"DSPEAK_HTTP_HOST", "203.0.113.9", "machine"},
		},
		{
			name: "an interface of elsewhere", env: map[string]string{"DSPEAK_HTTP_HOST": "fe80::1%nosuch0"}, code: codeFailure,
			holds: []string{"DSPEAK_HTTP_HOST", "interface"},
		},
		{name: "two documents", file: "http: {port: 1}\n---\nhttp: {port: 2}\n", holds: []string{"--config", "second document"}},
		{name: "a setting twice", file: "http: {port: 1}\nhttp.port: 2\n", holds: []string{"http.port", "twice"}},
		{name: "a value for a section", file: "http: 8425\n", holds: []string{"http", "section"}},
		{name: "a directory for the file", args: []string{"--config", "/"}, holds: []string{"--config", "regular file"}},
		{name: "a service named sfu", env: map[string]string{"SFU_PORT": "tcp://10.0.0.1:12825"}, holds: []string{"SFU_PORT", "enableServiceLinks: false"}},
		{name: "a misspelt setting", env: map[string]string{"DSPEAK_WROKERS": "2"}, holds: []string{"DSPEAK_WROKERS", "unknown"}},
		{name: "a literal of the other family", env: map[string]string{"SFU_IPV4": "2001:db8::1"}, holds: []string{"SFU_IPV4", "SFU_IPV6"}},
	} {
		for _, check := range []bool{false, true} {
			t.Run(row.name+map[bool]string{true: ", checked"}[check], func(t *testing.T) {
				env, args := plainSettings(t, media), append([]string{"--workers", "1"}, row.args...)
				maps.Copy(env, row.env)
				if row.file != "" {
					path := filepath.Join(t.TempDir(), "dspeak.yaml")
					if err := os.WriteFile(path, []byte(row.file), 0o600); err != nil {
						t.Fatal(err)
					}
					args = append(args, "--config", path)
				}
				if check {
					args = append(args, "--check")
				}
				want := row.code
				if want == 0 {
					want = codeBadSettings
				}
				text, code := runSupervisor(t, env, args, 0)
				if code != want || text == "" || strings.Contains(text, "\n") {
					t.Errorf("exit code %d, want %d and one line, got:\n%s", code, want, text)
				}
				for _, part := range row.holds {
					if !strings.Contains(text, part) {
						t.Errorf("does not name %q:\n%s", part, text)
					}
				}
			})
		}
	}
}

// TestReservedPorts is for users who may not open them: --check knows without a start.
func TestReservedPorts(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: only root can start a program as another user")
	}
	env := plainSettings(t, 1000)
	env["PORT"] = "80"
	text, code := runSupervisor(t, env, []string{"--workers", "1", "--check"}, nobody)
	if code != codeFailure || !strings.Contains(text, "PORT: 80 is reserved") || !strings.Contains(text, "SFU_PORT") {
		t.Errorf("exit code %d:\n%s", code, text)
	}
}

// TestGoodSettings are those that --check must let pass, beside a supervisor that runs
// with them, too.
func TestGoodSettings(t *testing.T) {
	links := map[string]string{
		"DSPEAK_SFU_SERVICE_HOST": "10.0.0.1", "DSPEAK_SFU_SERVICE_PORT": "8425", "DSPEAK_SFU_SERVICE_PORT_HTTP": "8425",
		"DSPEAK_SFU_PORT": "tcp://10.0.0.1:8425", "DSPEAK_SFU_PORT_8425_TCP": "tcp://10.0.0.1:8425", "DSPEAK_SFU_PORT_8425_TCP_PROTO": "tcp",
		"DSPEAK_SFU_PORT_8425_TCP_PORT": "8425", "DSPEAK_SFU_PORT_8425_TCP_ADDR": "10.0.0.1", "DSPEAK_WORKERS_PORT": "tcp://10.0.0.2:1",
		"DSPEAK_WORKERS_SERVICE_HOST": "10.0.0.2", "DSPEAK_SERVICE_HOST": "10.0.0.3", "DSPEAK_PORT": "udp://10.0.0.3:12825",
	}
	s := startServer(t, settings{env: links})
	env := plainSettings(t, s.media)
	maps.Copy(env, links)
	env["PORT"] = strconv.Itoa(s.port)
	if text, code := runSupervisor(t, env, []string{"--workers", "1", "--check"}, 0); code != 0 || text != "" {
		t.Errorf("beside a supervisor: exit code %d:\n%s", code, text)
	}
	env["PORT"], env["DSPEAK_WORKERS"] = env["PORT"]+"\r", "1\r"
	if text, code := runSupervisor(t, env, []string{"--check"}, 0); code != 0 || text != "" {
		t.Errorf("with Windows line ends: exit code %d:\n%s", code, text)
	}
}

// plainSettings are those of a supervisor that could start.
func plainSettings(t *testing.T, media int) map[string]string {
	t.Helper()
	folder := shortFolder(t)
	if err := os.Chmod(folder, 0o755); err != nil { // another user starts the program there
		t.Fatal(err)
	}
	return map[string]string{
		"PORT": strconv.Itoa(freePort(t)), "SFU_PORT": strconv.Itoa(media), "DSPEAK_RUN_DIR": filepath.Join(folder, "run"),
		"SFU_IPV4": "127.0.0.1", "SFU_IPV6": "::1",
	}
}

// runSupervisor runs one that ends by itself, and returns what it said and its exit code.
func runSupervisor(t *testing.T, env map[string]string, args []string, as uint32) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin.supervisor, args...)
	cmd.Env = environment(env)
	cmd.Dir = filepath.Dir(env["DSPEAK_RUN_DIR"])
	if as != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: as, Gid: as}}
	}
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && ctx.Err() == nil {
		return strings.TrimSpace(string(out)), exit.ExitCode()
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(string(out)), 0
}
