package process

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/dspeak/sfu/internal/handoff"
)

// childMode is the environment variable that makes the test binary a worker.
const childMode = "TEST_WORKER_MODE"

func TestMain(m *testing.M) {
	if mode := os.Getenv(childMode); mode != "" {
		os.Exit(beWorker(mode))
	}
	goleak.VerifyTestMain(m)
}

// beWorker is a worker without media: it says hello, takes its slot, and serves health.
func beWorker(mode string) int {
	conn, err := handoff.FromFile(os.NewFile(handoff.FD, "handoff"))
	if err != nil || mode == "silent" {
		return handoff.ExitFailure
	}
	if conn.Send(handoff.Message{Hello: &handoff.Hello{Protocol: handoff.Protocol, PID: os.Getpid()}}) != nil {
		return handoff.ExitFailure
	}
	m, _, err := conn.Receive(context.Background())
	if err != nil {
		return handoff.ExitOK // a spare that nobody needs
	}
	if mode == "bad settings" {
		_ = conn.Send(handoff.Message{Failed: &handoff.Failed{Reason: "no good"}})
		return handoff.ExitBadSettings
	}
	_ = os.Remove(m.Assign.Socket)
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", m.Assign.Socket)
	if err != nil {
		return handoff.ExitFailure
	}
	server := grpc.NewServer()
	healthv1.RegisterHealthServer(server, health.NewServer())
	if conn.Send(handoff.Message{Ready: &handoff.Ready{}}) != nil {
		return handoff.ExitFailure
	}
	_ = server.Serve(listener)
	return handoff.ExitOK
}

// startPool runs a pool of one slot whose workers are this test binary.
func startPool(t *testing.T, mode string, spare bool) *Pool {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	p, err := NewPool(Config{
		Binary: os.Args[0], RunDir: t.TempDir(), Slots: 1, Spare: spare, Sockets: make([]Sockets, 1),
		LogLevel: "INFO", OrphanTimeout: time.Minute, StopTimeout: 10 * time.Second,
		Health: Health{Interval: 50 * time.Millisecond, Timeout: time.Second, Failures: 2},
	}, log)
	if err != nil {
		t.Fatal(err)
	}
	p.start = func(cmd *exec.Cmd, _ int) error {
		cmd.Env = []string{childMode + "=" + mode}
		return cmd.Start()
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p
}

// next returns the next event of the kind.
func next(t *testing.T, p *Pool, kind EventKind) Event {
	t.Helper()
	for {
		select {
		case e := <-p.Events():
			if e.Kind == kind {
				return e
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("no event %d; workers %+v", kind, p.Workers())
		}
	}
}

func TestKilledWorkerIsReplaced(t *testing.T) {
	for name, spare := range map[string]bool{"by the spare": true, "by a fresh process": false} {
		t.Run(name, func(t *testing.T) {
			p := startPool(t, "good", spare)
			if e := next(t, p, EventReady); e.Generation != 1 {
				t.Fatalf("generation %d", e.Generation)
			}
			first := p.Workers()[0]
			if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if e := next(t, p, EventDown); e.Generation != 1 || !strings.Contains(e.Cause, "killed") {
				t.Fatalf("down %+v", e)
			}
			next(t, p, EventReady)
			second := p.Workers()[0]
			client, generation, ok := p.Client(0)
			if client == nil || !ok || generation != 2 || second.PID == first.PID || second.State != StateReady {
				t.Fatalf("after the crash: %+v, client %v", second, ok)
			}
		})
	}
}

func TestHungWorkerIsReplaced(t *testing.T) {
	p := startPool(t, "good", false)
	next(t, p, EventReady)
	pid := p.Workers()[0].PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if e := next(t, p, EventDown); !strings.Contains(e.Cause, "hung") {
		t.Fatalf("cause %q", e.Cause)
	}
	if err := syscall.Kill(pid, 0); err == nil {
		t.Fatal("the hung process still exists")
	}
	next(t, p, EventReady)
}

func TestBadSettingsAreFinal(t *testing.T) {
	p := startPool(t, "bad settings", false)
	if e := next(t, p, EventFailed); !strings.Contains(e.Cause, "no good") {
		t.Fatalf("cause %q", e.Cause)
	}
	if w := p.Workers()[0]; w.State != StateFailed || w.PID != 0 {
		t.Fatalf("slot %+v", w)
	}
	if _, _, ok := p.Client(0); ok {
		t.Fatal("a failed slot has a client")
	}
}

func TestWorkerThatNeverStartsIsHarmless(t *testing.T) {
	p := startPool(t, "silent", true)
	deadline := time.After(30 * time.Second)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for p.Workers()[0].Restarts < 2 {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("not tried again: %+v", p.Workers()[0])
		}
	}
}

func TestNewPoolRefusesNonsense(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no slots":   {Slots: 0},
		"no sockets": {Slots: 2, Sockets: make([]Sockets, 1)},
		"no health":  {Slots: 1, Sockets: make([]Sockets, 1)},
	} {
		if _, err := NewPool(cfg, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestRestartPolicy(t *testing.T) {
	p := restartPolicy{random: func() float64 { return 0.5 }}
	now := time.Unix(1000, 0)
	var got []time.Duration
	for range 12 {
		got = append(got, p.failed(now))
	}
	if got[0] != 0 || got[1] != backoffBase || got[2] != 2*backoffBase || got[11] != backoffMax {
		t.Fatalf("pauses %v", got)
	}
	if d := p.failed(now.Add(10 * failureHalfLife)); d != 0 {
		t.Fatalf("after a long quiet the pause is %s", d)
	}
	p = restartPolicy{random: func() float64 { return 1 }}
	p.failed(now)
	if d := p.failed(now); d != backoffBase*5/4 {
		t.Fatalf("jitter gives %s", d)
	}
}

func TestRelayPassesLinesOn(t *testing.T) {
	var out bytes.Buffer
	r := &relay{log: slog.New(slog.NewTextHandler(&out, nil))}
	long := strings.Repeat("x", 3*maxLine)
	for _, part := range []string{`{"level":"ERR`, `OR","msg":"hello","n":1}` + "\npanic: ", "oops\n", long + "\n"} {
		if n, err := r.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
	}
	if text := out.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "message=hello n=1") {
		t.Fatalf("log %.300q", text)
	}
	if tail := r.tailText(); !strings.HasPrefix(tail, "panic: oops\n") || len(tail) > 2*maxLine {
		t.Fatalf("tail of %d bytes", len(tail))
	}
}

func TestAllowedCPUs(t *testing.T) {
	cpus := AllowedCPUs()
	if len(cpus) == 0 {
		t.Fatal("no CPU is allowed")
	}
	cmd := exec.CommandContext(t.Context(), "cat", "/proc/self/status")
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := startPinned(cmd, cpus[0]); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if list, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok && strings.ContainsAny(list, ",-") {
			t.Fatalf("the child may run on %s", list)
		}
	}
}
