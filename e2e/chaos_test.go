package e2e

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
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
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	args := []string{
		"--quiet", "--channels", "3", "--users", "4", "--restless", "3", "--tcp", "1", "--workers", "2",
		"--faults", "worker-kill=4,worker-segv=1,worker-stop=1,worker-double-kill=1,restart=1,supervisor-kill=2,upgrade=1",
		"--env", "SFU_GRACE_MS=5000", // those who have left are forgotten soon
		"--window", "300ms", "--deadline", "20s", "--log", filepath.Join(t.TempDir(), "log"),
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin.dir, "chaos"), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	var diagnostics strings.Builder
	cmd.Stderr = &diagnostics
	out, err := cmd.Output()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("%v\n%s", err, diagnostics.String())
	}
}
