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
		"--kills", "6", "--segfaults", "1", "--stops", "1", "--double-kills", "1",
		"--supervisors", "0", "--restarts", "1", "--upgrades", "0",
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
