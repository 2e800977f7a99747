package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
)

// frailWorker builds a worker whose media loop panics of packets above 1,000 bytes.
func frailWorker(t *testing.T) string {
	t.Helper()
	const mark = "	l.take(t.router)\n"
	return changedWorker(t, "../worker/rtc/receive.go", mark, mark+"	if len(b) > 1000 {\n		panic(\"poison\")\n	}\n")
}

// changedWorker builds a worker of which one place of the source is another text.
func changedWorker(t *testing.T, source, old, other string) string {
	t.Helper()
	source, err := filepath.Abs(source)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s has no place for the change", source)
	}
	dir := t.TempDir()
	changed, overlay, program := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "worker")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {source: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for path, b := range map[string][]byte{changed: []byte(strings.Replace(string(text), old, other, 1)), overlay: replace} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "-o", program, "../cmd/worker").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// poisonings is how often the worker of a slot panicked of what frailWorker panics of,
// while it served or before.
func (s *server) poisonings(slot uint32) (n int) {
	from := fmt.Sprintf(" slot=%d ", slot)
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, from) && strings.HasSuffix(line, "line=\"panic: poison\"\n") {
			n++
		}
	}
	return n
}

// TestPoisonChannel has a channel crash its worker again and again: it goes to a worker
// of its own, and the others on the former one go on.
func TestPoisonChannel(t *testing.T) {
	s := startServer(t, settings{frail: true, env: map[string]string{"DSPEAK_WORKER_BINARY": frailWorker(t)}})
	speaker, listener := s.enterPion(t, "ann", "good", pionOptions{}), s.enterPion(t, "bob", "good", pionOptions{})
	speaker.speak(t)
	listener.hear(t, speaker.producer)
	eventually(t, 20*time.Second, listener.hearing(20))
	eve := s.enterPion(t, "eve", "bad", pionOptions{})
	eve.speak(t)
	before := s.busyFor(t, "bad")
	known := len(listener.all())
	eve.extra.Store(1000)
	eve.closedFor(t)
	eventually(t, 20*time.Second, listener.hearing(50))
	after := s.busyFor(t, "good")
	if after.GetSlot() != before.GetSlot() || after.GetEpoch() != before.GetEpoch() || s.poisonings(after.GetSlot()) != 3 {
		t.Errorf("the others' worker: %v, then %v, which crashed of poison %d times", before, after, s.poisonings(after.GetSlot()))
	}
	if all := listener.all(); len(all) != known {
		t.Errorf("bob is told %s", all[known].raw)
	}
	again := s.enterPion(t, "eve", "bad", pionOptions{})
	again.speak(t)
	own := s.busyFor(t, "bad")
	if own.GetSlot() == after.GetSlot() || !own.GetQuarantine() {
		t.Fatalf("the channel is on %v", own)
	}
	again.extra.Store(1000)
	eventually(t, startTimeout, func() error {
		got, err := s.admin(t).ListWorkers(t.Context(), &adminv1.ListWorkersRequest{})
		if err != nil {
			return err
		}
		for _, w := range got.GetWorkers() {
			if w.GetSlot() == own.GetSlot() && w.GetTakeovers() == 0 {
				return fmt.Errorf("the channel's own worker lives: %v", w)
			}
		}
		return nil
	})
	if n := s.poisonings(after.GetSlot()); n != 3 {
		t.Errorf("the others' worker crashed of poison %d times", n)
	}
	out, err := s.dspeakctl(t, "workers")
	if err != nil || !strings.Contains(out, "quarantine") {
		t.Errorf("%v: %s", err, out)
	}
	eventually(t, 20*time.Second, listener.hearing(50))
}

// closedFor waits until the user is told that its transport is closed.
func (u *pionUser) closedFor(t *testing.T) {
	t.Helper()
	eventually(t, startTimeout, func() error {
		for _, m := range u.all() {
			if m.Type == "transport-closed" {
				return nil
			}
		}
		return fmt.Errorf("%s is told %d messages, none of them that a transport is closed", u.name, len(u.all()))
	})
}

// TestPoisonRejoinsAtOnce: channels that crash their worker come back the moment they
// may, crash the quarantine's worker, and never again the one that others are on. The
// quarantine outlives the supervisor.
func TestPoisonRejoinsAtOnce(t *testing.T) {
	s := startServer(t, settings{frail: true, env: map[string]string{"DSPEAK_WORKER_BINARY": frailWorker(t)}})
	speaker, listener := s.enterPion(t, "ann", "good", pionOptions{}), s.enterPion(t, "bob", "good", pionOptions{})
	speaker.speak(t)
	listener.hear(t, speaker.producer)
	const common, quarantine = 0, 1 // slots
	for round := range 3 {
		channel := fmt.Sprint("bad-", round)
		eve := s.enterPion(t, "eve", channel, pionOptions{})
		eve.extra.Store(1000)
		eve.speak(t)
		eve.closedFor(t)
		before := s.poisonings(quarantine)
		again := s.enterPion(t, "eve", channel, pionOptions{})
		again.speak(t)
		again.extra.Store(1000)
		eventually(t, startTimeout, func() error {
			if s.poisonings(quarantine) == before {
				return fmt.Errorf("the quarantine's worker lives, the others' crashed of poison %d times", s.poisonings(common))
			}
			return nil
		})
		again.extra.Store(0)
		eve.extra.Store(0)
		if n := s.poisonings(common); n != 3*(round+1) {
			t.Fatalf("after %d rounds the others' worker crashed of poison %d times", round+1, n)
		}
	}
	eventually(t, 20*time.Second, listener.hearing(50))
	last := s.enterPion(t, "fay", "bad-2", pionOptions{})
	eventually(t, startTimeout, func() error { // its worker may be in the middle of a takeover
		if m := last.request(t, "create-transport", nil); m.Type != "transport-params" {
			return fmt.Errorf("answered %s", m.raw)
		}
		return nil
	})
	s.kill(t)
	s.again(t)
	if w := s.busyFor(t, "bad-2"); !w.GetQuarantine() {
		t.Errorf("after the supervisor's death the channel is on %v", w)
	}
	eventually(t, 20*time.Second, listener.hearing(50))
}
