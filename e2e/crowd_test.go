package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dspeak/sfu/cmd/loadgen/crowd"
)

// TestCrowd: many users enter one channel at once, each with a producer, all unmute at
// once, all lose their sockets at once, and all leave at once. Nobody fails, everyone
// sees everyone, and pictures stay few however long it takes.
func TestCrowd(t *testing.T) {
	users := 400
	if bin.raced {
		users = 120
	}
	s := startServer(t, settings{workers: 2, env: map[string]string{"SFU_GRACE_MS": "20000"}})
	report := s.crowd(t, "--users", strconv.Itoa(users), "--produce", "--unmute", "--reconnect", "--leave", "100ms")
	if len(report.Phases) != 4 {
		t.Fatalf("%+v", report)
	}
	for _, p := range report.Phases {
		// A round a pause at most, two pictures each, one's own, and those of a crowd that
		// is none yet; the reconnect is without a produce.
		if most := 2*float64(p.Settled/(100*time.Millisecond)) + 2*2*20 + 3; p.Pictures > most {
			t.Errorf("%s: %.0f pictures a user within %s, want at most %.0f", p.Name, p.Pictures, p.Settled, most)
		}
		// All pictures together stay within the rate, and two rounds and newcomers' own.
		whole := float64(users) * 200 // bytes of both pictures: ids, and a map of them
		if most := 16*1.1*(1<<20)*p.Settled.Seconds()/float64(users) + 4*whole; p.PictureBytes > most {
			t.Errorf("%s: %.0f bytes of pictures a user within %s, want at most %.0f", p.Name, p.PictureBytes, p.Settled, most)
		}
	}
	join, unmute := report.Phases[0], report.Phases[1]
	if join.Events > float64(users) || unmute.Events < 2*float64(users-1) || unmute.Events > 2*float64(users) {
		t.Errorf("%.0f events a user of %d joins, %.0f of as many unmutes", join.Events, users, unmute.Events)
	}
	if join.Bytes > join.PictureBytes*0.75+300*float64(users)+20_000 {
		t.Errorf("%.0f bytes on the wire a user, of which %.0f of pictures are compressed", join.Bytes, join.PictureBytes)
	}
}

// TestCrowdOfListeners: many listen to one speaker, and a sample of them with real media.
func TestCrowdOfListeners(t *testing.T) {
	users := 300
	if bin.raced {
		users = 100
	}
	s := startServer(t, settings{workers: 2, env: map[string]string{"SFU_GRACE_MS": "500"}})
	report := s.crowd(t, "--users", strconv.Itoa(users), "--speakers", "1", "--hear", "10", "--compress=false")
	if report.Phases[0].Bytes < report.Phases[0].PictureBytes {
		t.Errorf("compressed without an offer: %+v", report.Phases[0])
	}
	admin := s.admin(t)
	eventually(t, startTimeout, func() error { return idle(t, admin) })
}

// crowd runs the load generator's crowd; everyone who is in it must succeed.
func (s *server) crowd(t *testing.T, args ...string) crowd.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	args = append([]string{"crowd", "--json", "--url", s.socketURL(), "--prefix", fmt.Sprintf("crowd-%d", lab.next())}, args...)
	cmd := exec.CommandContext(ctx, bin.loadgen, args...)
	var diagnostics strings.Builder
	cmd.Stderr = &diagnostics
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("loadgen: %v\n%s\n%s", err, out, diagnostics.String())
	}
	var report crowd.Report
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("no report: %v: %s", err, out)
	}
	t.Logf("%s", out)
	return report
}
