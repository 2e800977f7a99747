package e2e

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const nobody = 65534 // a user without rights

// TestBadStart starts the supervisor where it cannot work: one clear line, an
// exit code, and nothing left running.
func TestBadStart(t *testing.T) {
	port := func() string { return strconv.Itoa(freePort(t)) }
	for _, row := range []struct {
		name  string
		env   map[string]string
		args  []string
		as    uint32
		holds []string // words of the line
		setUp func(t *testing.T, env map[string]string)
	}{
		{
			name: "the HTTP port is occupied", holds: []string{"PORT"},
			setUp: func(t *testing.T, env map[string]string) { t.Helper(); env["PORT"] = occupied(t, "tcp") },
		},
		{
			name: "the media port is occupied", holds: []string{"SFU_PORT"},
			setUp: func(t *testing.T, env map[string]string) { t.Helper(); env["SFU_PORT"] = occupied(t, "udp") },
		},
		{name: "a port that is no number", env: map[string]string{"SFU_PORT": "twelve"}, holds: []string{"SFU_PORT", "twelve"}},
		{name: "a port out of range", env: map[string]string{"PORT": "70000"}, holds: []string{"70000"}},
		{name: "an unknown environment", env: map[string]string{"NODE_ENV": "prod"}, holds: []string{"NODE_ENV", "prod"}},
		{name: "an unknown flag", args: []string{"--wrokers", "2"}, holds: []string{"wrokers"}},
		{name: "no configuration file", args: []string{"--config", "/nonexistent.yaml"}, holds: []string{"/nonexistent.yaml"}},
		{name: "no main server in production", env: map[string]string{"NODE_ENV": "production"}, holds: []string{"INTEROP_API_BASE_URL"}},
		{
			name: "the run directory is another user's", as: nobody, holds: []string{"run"},
			setUp: func(t *testing.T, env map[string]string) {
				t.Helper()
				if err := os.Mkdir(env["DSPEAK_RUN_DIR"], 0o700); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "the run directory is a file", holds: []string{"run"},
			setUp: func(t *testing.T, env map[string]string) {
				t.Helper()
				if err := os.WriteFile(env["DSPEAK_RUN_DIR"], nil, 0o600); err != nil {
					t.Fatal(err)
				}
			},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.as != 0 && os.Getuid() != 0 {
				t.Skip("NOT TESTED: only root can start a program as another user")
			}
			folder := shortFolder(t)
			if err := os.Chmod(folder, 0o755); err != nil { // another user starts the program there
				t.Fatal(err)
			}
			env := map[string]string{
				"PORT": port(), "SFU_PORT": strconv.Itoa(freeMediaPort(t, 2)), "DSPEAK_RUN_DIR": filepath.Join(folder, "run"),
			}
			maps.Copy(env, row.env)
			if row.setUp != nil {
				row.setUp(t, env)
			}
			refusesToStart(t, bin.supervisor, env, append([]string{"--workers", "1"}, row.args...), row.as, row.holds)
		})
	}
}

func refusesToStart(t *testing.T, program string, env map[string]string, args []string, as uint32, holds []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = environment(env)
	cmd.Dir = filepath.Dir(env["DSPEAK_RUN_DIR"])
	if as != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: as, Gid: as}}
	}
	started := time.Now()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || ctx.Err() != nil || exit.ExitCode() <= 0 {
		t.Errorf("ended with %v after %v", err, time.Since(started))
	}
	text := strings.TrimSpace(string(out))
	if text == "" || strings.Contains(text, "\n") {
		t.Errorf("want one line, got:\n%s", text)
	}
	for _, want := range holds {
		if !strings.Contains(text, want) {
			t.Errorf("does not name %q:\n%s", want, text)
		}
	}
	t.Logf("says: %s", text)
	if left := running(cmd.Dir); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
}

// occupied is a port that somebody else has for the test's time.
func occupied(t *testing.T, network string) string {
	t.Helper()
	var config net.ListenConfig
	if network == "tcp" {
		listener, err := config.Listen(t.Context(), network, ":0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
		return strconv.Itoa(portOf(t, listener.Addr()))
	}
	socket, err := config.ListenPacket(t.Context(), network, "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	return strconv.Itoa(portOf(t, socket.LocalAddr()))
}
