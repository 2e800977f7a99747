package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
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
	files, gauges := s.descriptors(t), s.gauges(t)
	report := s.load(t, channels, listeners)
	t.Logf("%s", report)
	eventually(t, startTimeout, worked)
	eventually(t, startTimeout, func() error {
		for name, count := range s.descriptors(t) {
			if before, known := files[name]; known && count > before+4 {
				return fmt.Errorf("%s has %d open files, before the load %d", name, count, before)
			}
		}
		for name, value := range s.gauges(t) {
			if room := roomFor(name); value > gauges[name]+room {
				return fmt.Errorf("%s is %.0f, before the load %.0f", name, value, gauges[name])
			}
		}
		return nil
	})
}

// TestSegmentationOff: a worker that may not use UDP_SEGMENT delivers everything, too.
func TestSegmentationOff(t *testing.T) {
	s := startServer(t, settings{workers: 1, env: map[string]string{"DSPEAK_MEDIA_SEGMENTATION": "off"}})
	s.load(t, 2, 5)
	status, body, err := s.get(t.Context(), "/metrics")
	if err != nil || status != http.StatusOK {
		t.Fatalf("metrics: %d, %v", status, err)
	}
	for _, line := range []string{`dspeak_worker_segments{slot="0"} 1`, `dspeak_worker_socket_faults_total{cause="segmentation_refused",slot="0"} 0`} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("metrics lack %s", line)
		}
	}
}

// roomFor is how much a gauge may differ between two idle moments.
func roomFor(name string) float64 {
	switch {
	case strings.Contains(name, "goroutines"):
		return 4
	case bin.raced: // the race detector keeps its shadow of all memory ever used
		return math.Inf(1)
	default:
		return 12 << 20 // send slots, tables and queues keep the size of the load
	}
}

// gauges are the goroutines and the resident bytes of all processes.
func (s *server) gauges(t *testing.T) map[string]float64 {
	t.Helper()
	status, body, err := s.get(t.Context(), "/metrics")
	if err != nil || status != http.StatusOK {
		t.Fatalf("metrics: %d, %v", status, err)
	}
	all := map[string]float64{}
	for line := range strings.Lines(body) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.Split(name, "{")[0] {
		case "go_goroutines", "process_resident_memory_bytes", "dspeak_worker_goroutines", "dspeak_worker_resident_bytes":
			if all[name], err = strconv.ParseFloat(value, 64); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(all) != 2+2*2 {
		t.Fatalf("of two workers and the supervisor there is only %v", all)
	}
	return all
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
	for _, process := range running(filepath.Dir(s.runDir)) {
		entries, err := os.ReadDir("/proc/" + strings.Fields(process)[0] + "/fd")
		if err == nil {
			counts[process] = len(entries)
		}
	}
	return counts
}
