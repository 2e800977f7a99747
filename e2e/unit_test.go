package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const unitFile = "../deploy/dspeak-sfu.service"

// TestUnit has systemd read the unit, as if the programs were installed.
func TestUnit(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("NOT TESTED: systemd-analyze is not installed")
	}
	text, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\nOOMPolicy=continue\n", "\nRestartPreventExitStatus=78\n", "--check\n", "\nOOMScoreAdjust=", "\nTasksMax=",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the unit lacks %q", want)
		}
	}
	path := filepath.Join(t.TempDir(), filepath.Base(unitFile))
	installed := strings.ReplaceAll(string(text), "/opt/dspeak-sfu/bin/supervisor", bin.supervisor)
	if err := os.WriteFile(path, []byte(installed), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), tool, "verify", "--man=no", path).CombinedOutput()
	if text := strings.TrimSpace(string(out)); err != nil || text != "" {
		t.Errorf("systemd-analyze verify: %v\n%s", err, text)
	}
}
