package process

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/handoff"
)

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		}
	}
}

func kill(t *testing.T, pid int, signal syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, signal); err != nil {
		t.Fatal(err)
	}
}

func gone(pid int) bool { return syscall.Kill(pid, 0) != nil }

// TestStateThatCrashesIsGivenUp: a worker that panics whenever it goes on with the state
// of the one before it begins with nothing at last, and with pauses.
func TestStateThatCrashesIsGivenUp(t *testing.T) {
	p, _ := startPool(t, modePanic, testConfig(t))
	for want := range 2 {
		e := next(t, p, EventDown)
		if int(e.Epoch) != want+1 || int(e.Generation) != (want+1)*(1+maxSoon) || e.Cause != "exit status 2" {
			t.Fatalf("down %+v", e)
		}
	}
	eventually(t, "a pause between the restarts", func() bool { return p.Workers()[0].State == StateBackoff })
}

// TestStateThatNobodyCanUseIsGivenUp: the successors start, but none comes to serve.
func TestStateThatNobodyCanUseIsGivenUp(t *testing.T) {
	for mode, attempts := range map[string]int{modeNoTakeover: maxAttempts, modeRefusesState: 1} {
		t.Run(mode, func(t *testing.T) {
			p, _ := startPool(t, mode, testConfig(t))
			next(t, p, EventReady)
			kill(t, p.Workers()[0].PID, syscall.SIGKILL)
			if e := next(t, p, EventDown); e.Epoch != 1 || int(e.Generation) != 1+attempts {
				t.Fatalf("down %+v", e)
			}
			if e := next(t, p, EventReady); e.Epoch != 2 {
				t.Fatalf("ready %+v", e)
			}
		})
	}
}

// TestManyKills: whatever is killed, the state lives on, and nothing is left behind.
func TestManyKills(t *testing.T) {
	cfg := testConfig(t)
	cfg.Spare = true
	p, stop := startPool(t, modeGood, cfg)
	next(t, p, EventReady)
	for range 5 { // more would be delayed
		kill(t, p.Workers()[0].PID, syscall.SIGKILL)
		if e := next(t, p, EventTakeover); e.Epoch != 1 {
			t.Fatalf("takeover %+v", e)
		}
	}
	stop()
	if left := ledgers(t); left != 0 {
		t.Fatalf("%d ledgers are still open", left)
	}
}

func TestRestart(t *testing.T) {
	p, _ := startPool(t, modeGood, testConfig(t))
	next(t, p, EventReady)
	before := p.Workers()[0]
	done := make(chan error, 1)
	go func() { done <- p.Restart(t.Context(), 0) }()
	if e := next(t, p, EventTakeover); e.Cause != CauseRestart || e.Epoch != 1 || e.Generation != 2 {
		t.Fatalf("takeover %+v", e)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	after := p.Workers()[0]
	if after.PID == before.PID || !gone(before.PID) || after.Takeovers != 1 || after.Restarts != 0 {
		t.Fatalf("after the restart %+v, before %+v", after, before)
	}
	if err := p.Restart(t.Context(), 1); !errors.Is(err, errs.ErrNotFound) {
		t.Fatalf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Restart(ctx, 0); err == nil {
		t.Fatal("restarted after the end")
	}
}

// TestRestartWithoutALedgerIsRefused: the users would be lost.
func TestRestartWithoutALedgerIsRefused(t *testing.T) {
	p, err := NewPool(testConfig(t), slog.New(slog.DiscardHandler)) // never run
	if err != nil {
		t.Fatal(err)
	}
	k := p.keepers[0]
	if k.conn, err = dial(p.SocketPath(0)); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = k.conn.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan finding, 1)
	c := &child{process: &os.Process{Pid: os.Getpid()}, exited: make(chan struct{})}
	go func() { watched <- k.watch(ctx, c, Event{}) }()
	if err := p.Restart(t.Context(), 0); !errors.Is(err, errs.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	cancel()
	<-watched
}

// ledgers counts the ledgers that this process holds.
func ledgers(t *testing.T) (n int) {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if name, err := os.Readlink(fd); err == nil && strings.Contains(name, "dspeak-ledger") {
			n++
		}
	}
	return n
}

func TestSettingsThatCannotWorkAreFinal(t *testing.T) {
	for mode, holds := range map[string]string{modeBadSettings: "no good", modeBadInherit: "no descriptor"} {
		t.Run(mode, func(t *testing.T) {
			p, _ := startPool(t, mode, testConfig(t))
			if e := next(t, p, EventFailed); !strings.Contains(e.Cause, holds) || !strings.Contains(e.Cause, "exit status 78") {
				t.Fatalf("cause %q", e.Cause)
			}
			if w := p.Workers()[0]; w.State != StateFailed || w.PID != 0 || w.Restarts != 0 {
				t.Fatalf("slot %+v", w)
			}
			if _, _, ok := p.Client(0); ok {
				t.Fatal("a failed slot has a client")
			}
		})
	}
}

func TestWorkerThatNeverServesIsHarmless(t *testing.T) {
	for _, mode := range []string{modeSilent, modeMute, modeIdle, modeStrange} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			p, stop := startPool(t, mode, testConfig(t))
			if e := next(t, p, EventDown); e.Cause == "" || e.Generation != 1 {
				t.Fatalf("the failed start is told as %+v", e)
			}
			eventually(t, "another try", func() bool { return p.Workers()[0].Restarts >= 1 })
			if _, _, ok := p.Client(0); ok {
				t.Fatal("it has a client")
			}
			stop()
		})
	}
}

func TestMissingProgramIsRefused(t *testing.T) {
	cfg := testConfig(t)
	cfg.Binary = filepath.Join(cfg.RunDir, "nothing")
	if _, err := NewPool(cfg, slog.New(slog.DiscardHandler)); !errors.Is(err, errs.ErrInvalid) || !strings.Contains(err.Error(), "DSPEAK_WORKER_BINARY") {
		t.Fatalf("got %v", err)
	}
}

func TestHungWorkerIsReplaced(t *testing.T) {
	cfg := testConfig(t)
	cfg.Health.Timeout = 250 * time.Millisecond
	p, _ := startPool(t, modeGood, cfg)
	next(t, p, EventReady)
	pid := p.Workers()[0].PID
	kill(t, pid, syscall.SIGSTOP)
	if e := next(t, p, EventTakeover); !strings.Contains(e.Cause, "hung") || e.Generation != 2 {
		t.Fatalf("takeover %+v", e)
	}
	if !gone(pid) {
		t.Fatal("the hung process still exists")
	}
}

func TestControlSideThatStopsCountsAsHung(t *testing.T) {
	p, _ := startPool(t, modeControlStops, testConfig(t))
	if e := next(t, p, EventTakeover); !strings.Contains(e.Cause, "the control side stands still") {
		t.Fatalf("cause %q", e.Cause)
	}
}

func TestStoppedLoopCountsAsHung(t *testing.T) {
	p, _ := startPool(t, modeStopped, testConfig(t))
	if e := next(t, p, EventTakeover); !strings.Contains(e.Cause, errNotServing.Error()) {
		t.Fatalf("cause %q", e.Cause)
	}
}

func TestStop(t *testing.T) {
	for name, row := range map[string]struct {
		mode  string
		grace time.Duration
	}{
		"on request":      {modeGood, 20 * time.Second},
		"or for certain":  {modeStubborn, 50 * time.Millisecond},
		"with no client":  {modeIdle, 20 * time.Second},
		"after a failure": {modeBadSettings, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			cfg.StopTimeout, cfg.Spare = row.grace, true
			p, stop := startPool(t, row.mode, cfg)
			switch row.mode {
			case modeIdle:
				eventually(t, "a process", func() bool { return p.Workers()[0].PID != 0 })
			case modeBadSettings:
				next(t, p, EventFailed)
			default:
				next(t, p, EventReady)
			}
			pid := p.Workers()[0].PID
			began := time.Now()
			stop()
			if d := time.Since(began); d > 15*time.Second {
				t.Errorf("took %s", d)
			}
			if pid != 0 && !gone(pid) {
				t.Error("the worker still runs")
			}
			for range p.Events() {
				continue // until it is closed
			}
		})
	}
}

// masks are the CPU lists of a process's threads.
func masks(t *testing.T, pid int) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/status")
	if err != nil || len(files) == 0 {
		t.Fatalf("threads of %d: %v, %v", pid, files, err)
	}
	var lists []string
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // the thread ended
		}
		for line := range strings.Lines(string(b)) {
			if list, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
				lists = append(lists, strings.TrimSpace(list))
			}
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(lists)))
}

func TestSpareTakesTheSlotPinned(t *testing.T) {
	cfg := testConfig(t)
	cfg.Spare, cfg.CPUs = true, AllowedCPUs()[:1]
	p, _ := startPool(t, modeGood, cfg)
	cpu := []string{strconv.Itoa(cfg.CPUs[0])}
	next(t, p, EventReady)
	first := p.Workers()[0].PID
	if got := masks(t, first); !slices.Equal(got, cpu) {
		t.Errorf("the first may run on %v, want %v", got, cpu)
	}
	var spare *child
	eventually(t, "a spare", func() bool { spare = p.takeSpare(); return spare != nil })
	if session, err := unix.Getsid(spare.pid()); err != nil || session != spare.pid() {
		t.Errorf("the spare %d is in session %d, %v", spare.pid(), session, err)
	}
	// Offered again, so that one is there for certain; the pool makes a second.
	offering, over, offered := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(offered)
		close(offering)
		select {
		case p.spares <- spare:
		case <-over:
			spare.stop(time.Second, nil)
		}
	}()
	<-offering
	kill(t, first, syscall.SIGKILL)
	next(t, p, EventTakeover)
	second := p.Workers()[0].PID
	if cpu := p.startedFor(second); cpu != -1 {
		t.Errorf("the second was started for CPU %d, and is no spare", cpu)
	}
	if got := masks(t, second); !slices.Equal(got, cpu) {
		t.Errorf("the second may run on %v, want %v", got, cpu)
	}
	close(over)
	<-offered
}

func TestMediaSocketsOutliveTheWorker(t *testing.T) {
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	file, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	client, err := net.DialUDP("udp4", nil, socket.LocalAddr().(*net.UDPAddr)) //nolint:forcetypeassert // a UDP socket
	if err != nil {
		t.Fatal(err)
	}
	_ = socket.Close() // only the file is left here
	defer func() { _ = file.Close(); _ = client.Close() }()
	cfg := testConfig(t)
	cfg.Sockets = []Sockets{{Names: []string{handoff.FileUDP4}, Files: []*os.File{file}}}
	p, _ := startPool(t, modeEcho, cfg)
	for _, kind := range []EventKind{EventReady, EventTakeover} {
		next(t, p, kind)
		pid := p.Workers()[0].PID
		if got := ask(t, client); got != strconv.Itoa(pid) {
			t.Fatalf("%s answers, want %d", got, pid)
		}
		kill(t, pid, syscall.SIGKILL)
		// What comes while nobody serves waits in the socket.
		eventually(t, "the end of the process", func() bool { return gone(pid) })
	}
	if got := ask(t, client); got == "" {
		t.Fatal("nobody answers what was sent between two workers")
	}
}

func ask(t *testing.T, client *net.UDPConn) string {
	t.Helper()
	if _, err := client.Write([]byte("who?")); err != nil {
		t.Fatal(err)
	}
	if err := client.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, err := client.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestEventsAndUsageArePassedOn(t *testing.T) {
	p, _ := startPool(t, modeEventsAndGaps, testConfig(t))
	// The stream ends after each event; the gap is told.
	for _, want := range []EventKind{EventReady, EventWorker, EventMissed, EventWorker, EventMissed} {
		e := <-p.Events()
		if e.Kind != want || e.Generation != 1 {
			t.Fatalf("event %+v, want kind %d", e, want)
		}
		if e.Kind == EventWorker && e.Worker.GetTransportClosed().GetTransportId() != "t" {
			t.Fatalf("event %v", e.Worker)
		}
	}
	eventually(t, "a report of usage", func() bool { return p.Workers()[0].Usage.GetConsumers() == 42 })
	eventually(t, "two reports make a load", func() bool { return !p.Workers()[0].Load.Since.IsZero() })
}
