package e2e

import (
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestTable: the load generator measures a table on a server that it starts itself,
// and leaves nothing behind.
func TestTable(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin.loadgen, "table", "--rows", "1x3,3x2", "--sizes", "opus", "--rounds", "1", "--duration", "1s",
		"--env", "DSPEAK_MEDIA_MAX_WAIT=1ms", "--json")
	folder := shortFolder(t)
	cmd.Env = environment(map[string]string{"TMPDIR": folder, "DSPEAK_NONSENSE": "1"}) // no setting of the server's
	var progress strings.Builder
	cmd.Stderr = &progress
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	var table struct {
		Lines []struct {
			Speakers, Listeners int
			PacketsPerSecond    float64
			Lost                uint64
			Report              struct{ Delivered, Duplicate uint64 }
		}
	}
	if err := json.Unmarshal(out, &table); err != nil || len(table.Lines) != 2 {
		t.Fatalf("%v: %s", err, out)
	}
	for _, l := range table.Lines {
		if want := uint64(50 * l.Speakers * l.Listeners); l.Report.Delivered != want || l.Lost+l.Report.Duplicate != 0 || l.PacketsPerSecond <= 0 {
			t.Errorf("line %+v, want %d packets", l, want)
		}
	}
	nothingLeft(t, folder)
}
