package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestProofOnTheWireFindsForgetfulWorkers plays kills with workers whose successors
// forget one counter each: what users get must give every one of them away.
func TestProofOnTheWireFindsForgetfulWorkers(t *testing.T) {
	if testing.Short() {
		t.Skip("builds workers")
	}
	for _, row := range []struct{ name, forget, found string }{
		{"which numbers came", `for s := range l.ledger.Streams.All() {
			was := s.RTP.Highest()
			s.RTP = ledger.Window{}
			s.RTP.Mark(was)
		}`, "packets came twice"},
		{"what consumers got last", `for c := range l.ledger.Consumers.All() { c.Mapping.End(0) }`, "got other bytes under RTP index"},
	} {
		t.Run(row.name, func(t *testing.T) {
			env := "DSPEAK_WORKER_BINARY=" + mutantWorker(t, row.forget)
			out, err := chaos(t, "--env", env, "--env", "SFU_GRACE_MS=1000", "--faults", "worker-kill=4", "--channels", "2", "--users", "4",
				"--restless", "0", "--tcp", "0", "--repeat", "0.3", "--max-failures", "0")
			if err == nil || !strings.Contains(out, row.found) {
				t.Errorf("%q is not in\n%s", row.found, out)
			}
		})
	}
}

// mutantWorker builds a worker that does more before it goes on with a ledger.
func mutantWorker(t *testing.T, more string) string {
	t.Helper()
	const begin = "func (l *Loop) resume() {\n"
	source, err := filepath.Abs("../worker/rtc/resume.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	mutated := strings.Replace(string(text), begin, begin+more+"\n", 1)
	if mutated == string(text) {
		t.Fatalf("%q is not in %s", begin, source)
	}
	dir := t.TempDir()
	replacement, overlay, worker := filepath.Join(dir, "resume.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "worker")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {source: replacement}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{replacement: mutated, overlay: string(list)} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "-o", worker, "./cmd/worker")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return worker
}
