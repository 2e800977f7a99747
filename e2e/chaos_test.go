package e2e

import (
	"context"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestFaults plays a short run of the fault test: what users must notice nothing of
// are conditions here, how long things take is reported only.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("a call is not for -short")
	}
	out, err := chaos(t, "--channels", "3", "--users", "4", "--restless", "3", "--tcp", "1", "--workers", "2",
		"--faults", "worker-kill=4,worker-segv=1,worker-stop=1,worker-double-kill=1,restart=1,supervisor-kill=2,upgrade=1,freeze=2",
		"--deadline", "20s", "--log", filepath.Join(t.TempDir(), "log"))
	t.Log(out)
	if err != nil {
		t.Error(err)
	}
}

// chaos runs the fault program and returns what it printed.
func chaos(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	args = append([]string{"--quiet", "--window", "300ms", "--env", "SFU_GRACE_MS=5000"}, args...)
	cmd := exec.CommandContext(ctx, filepath.Join(bin.dir, "chaos"), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.CombinedOutput()
	return string(out), err
}
