package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
)

// TestManyUsers joins 300 users in 30 channels with real media; all packets must
// arrive, and nothing may be left of them afterwards.
func TestManyUsers(t *testing.T) {
	if testing.Short() {
		t.Skip("a load is not for -short")
	}
	channels, listeners := 30, 9
	if bin.raced {
		channels = 10 // the race detector makes each packet ten times as dear
	}
	s := startServer(t, settings{workers: 2, env: map[string]string{"SFU_GRACE_MS": "500"}})
	admin := s.admin(t)
	worked := func() error { return idle(t, admin) }
	s.load(t, 2, 2) // so that what is made once is there
	eventually(t, startTimeout, worked)
	before := s.descriptors(t)
	report := s.load(t, channels, listeners)
	t.Logf("%s", report)
	eventually(t, startTimeout, worked)
	eventually(t, startTimeout, func() error {
		after := s.descriptors(t)
		for name, count := range before {
			if after[name] > count+4 {
				return fmt.Errorf("%s has %d open files, before the load %d", name, after[name], count)
			}
		}
		return nil
	})
}

// load runs the load generator and returns its report.
func (s *server) load(t *testing.T, channels, listeners int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin.loadgen, "--json", "--url", s.socketURL(), "--channels", strconv.Itoa(channels),
		"--listeners", strconv.Itoa(listeners), "--duration", "5s", "--prefix", fmt.Sprintf("load-%d", lab.next()))
	var diagnostics strings.Builder
	cmd.Stderr = &diagnostics
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("loadgen: %v\n%s\n%s", err, out, diagnostics.String())
	}
	if !json.Valid(out) {
		t.Fatalf("no report: %s", out)
	}
	return strings.TrimSpace(string(out))
}

// idle says what the workers still have.
func idle(t *testing.T, admin adminv1.AdminServiceClient) error {
	t.Helper()
	got, err := admin.ListWorkers(t.Context(), &adminv1.ListWorkersRequest{})
	if err != nil {
		return err
	}
	for _, worker := range got.GetWorkers() {
		if worker.GetChannels()+worker.GetTransports()+worker.GetProducers()+worker.GetConsumers() > 0 {
			return fmt.Errorf("left in a worker: %v", worker)
		}
	}
	return nil
}

// descriptors counts the open files of each process.
func (s *server) descriptors(t *testing.T) map[string]int {
	t.Helper()
	counts := make(map[string]int)
	for _, process := range running() {
		entries, err := os.ReadDir("/proc/" + strings.Fields(process)[0] + "/fd")
		if err == nil {
			counts[process] = len(entries)
		}
	}
	return counts
}
