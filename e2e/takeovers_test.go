package e2e

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestTakeoversInARow kills a worker again and again, each time after it has served for
// some seconds: no takeover is paused for, the last is like the first.
func TestTakeoversInARow(t *testing.T) {
	const (
		kills  = 12
		served = 3 * time.Second
	)
	s := startServer(t, settings{})
	speaker, listener := s.enterPion(t, "ann", "row", pionOptions{}), s.enterPion(t, "bob", "row", pionOptions{})
	speaker.speak(t)
	listener.hear(t, speaker.producer)
	var took []time.Duration
	for n := range kills {
		worker := s.onlyWorker(t)
		eventually(t, startTimeout, func() error {
			if worker = s.onlyWorker(t); worker.GetState() != "ready" || worker.GetUptimeMs() < uint64(served.Milliseconds()) {
				return fmt.Errorf("worker %v", worker)
			}
			return nil
		})
		if err := syscall.Kill(int(worker.GetPid()), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, startTimeout, func() error {
			now := s.onlyWorker(t)
			if now.GetState() == "backoff" {
				t.Fatalf("takeover %d is paused for: %v", n, now)
			}
			if now.GetState() != "ready" || now.GetPid() == worker.GetPid() || now.GetTakeovers() != uint32(n+1) || now.GetEpoch() != 1 {
				return fmt.Errorf("after process %d: %v", worker.GetPid(), now)
			}
			took = append(took, time.Duration(now.GetLastTakeoverMs()*float64(time.Millisecond)))
			return nil
		})
		eventually(t, 20*time.Second, listener.hearing(20))
	}
	t.Logf("the takeovers took %v", took)
	if text := s.log.String(); strings.Contains(text, "worker restart delayed") || strings.Contains(text, "channel goes to quarantine") {
		t.Error("the log tells of a pause or a quarantine")
	}
	if longest := slices.Max(took); longest > time.Second { // a pause grows to this and beyond
		t.Errorf("a takeover took %v", longest)
	}
}
