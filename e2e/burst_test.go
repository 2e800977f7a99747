package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
)

// TestBurstOfChannels opens a hundred channels at once on four workers: none gets many
// more than its share, even when one dies in the middle.
func TestBurstOfChannels(t *testing.T) {
	const channels, most = 100, 27
	killed := func(signal syscall.Signal) func(*testing.T, *server) {
		return func(t *testing.T, s *server) {
			t.Helper()
			if err := syscall.Kill(int(s.workers(t)[1].GetPid()), signal); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, row := range []struct {
		name   string
		middle func(*testing.T, *server)
	}{
		{"all serve", func(*testing.T, *server) {}},
		{"one is killed", killed(syscall.SIGKILL)},
		{"one crashes", killed(syscall.SIGSEGV)},
		{"one is restarted", func(t *testing.T, s *server) {
			t.Helper()
			if out, err := s.dspeakctl(t, "restart", "1"); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := startServer(t, settings{workers: 4})
			var sockets []*socket
			for i := range channels {
				sockets = append(sockets, s.enter(t, "ann", fmt.Sprint("channel-", i)))
			}
			for i, c := range sockets {
				c.sendText(t, `{"type":"create-transport","requestId":"burst"}`)
				if i == channels/2 {
					row.middle(t, s)
				}
			}
			for _, c := range sockets {
				c.expectThat(t, "transport", func(m message) bool {
					if m.Type == "error" {
						t.Error(m.raw)
					}
					return m.Type == "transport-params" || m.Type == "error"
				})
			}
			s.spreadOver(t, channels, most)
		})
	}
}

// TestBurstOfCalls opens many calls with real media at once: their handshakes and
// packets are measured meanwhile, and must not drive them together.
func TestBurstOfCalls(t *testing.T) {
	if testing.Short() {
		t.Skip("a load is not for -short")
	}
	channels := 40
	if bin.raced {
		channels = 12 // the race detector makes each packet ten times as dear
	}
	s := startServer(t, settings{workers: 4})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin.loadgen, "--json", "--url", s.socketURL(), "--channels", strconv.Itoa(channels),
		"--listeners", "2", "--duration", "5s")
	var out output
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() error {
		sum := 0
		for _, w := range s.workers(t) {
			sum += int(w.GetChannels())
		}
		if sum != channels {
			return fmt.Errorf("%d channels are open", sum)
		}
		return nil
	})
	s.spreadOver(t, channels, channels/4+2)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("loadgen: %v\n%s", err, out.tail(20))
	}
}

// workers are all workers, by slot.
func (s *server) workers(t *testing.T) []*adminv1.Worker {
	t.Helper()
	got, err := s.admin(t).ListWorkers(t.Context(), &adminv1.ListWorkersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return got.GetWorkers()
}

// spreadOver fails the test unless there are so many channels, and no worker has more
// than most.
func (s *server) spreadOver(t *testing.T, channels, most int) {
	t.Helper()
	sum, spread := 0, []int{}
	for _, w := range s.workers(t) {
		sum += int(w.GetChannels())
		spread = append(spread, int(w.GetChannels()))
	}
	t.Logf("spread as %v", spread)
	for _, n := range spread {
		if n > most || sum != channels {
			t.Fatalf("%d channels are spread as %v, want at most %d on one of 4 workers", channels, spread, most)
		}
	}
}
