package process

import (
	"bytes"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// next returns the next event of the kind.
func next(t *testing.T, p *testPool, kind EventKind) Event {
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
			cfg := testConfig(t)
			cfg.Spare = spare
			p, _ := startPool(t, modeGood, cfg)
			if e := next(t, p, EventReady); e.Generation != 1 {
				t.Fatalf("generation %d", e.Generation)
			}
			first := p.Workers()[0]
			kill(t, first.PID, syscall.SIGKILL)
			e := next(t, p, EventTakeover)
			if e.Generation != 2 || e.Epoch != 1 || !strings.Contains(e.Cause, "killed") || e.Resumed.Consumers != 5 {
				t.Fatalf("takeover %+v", e)
			}
			second := p.Workers()[0]
			client, epoch, ok := p.Client(0)
			if client == nil || !ok || epoch != 1 || second.PID == first.PID || second.State != StateReady || second.Takeovers != 1 {
				t.Fatalf("after the crash: %+v, client %v", second, ok)
			}
		})
	}
}

func TestNewPoolRefusesNonsense(t *testing.T) {
	long := testConfig(t)
	long.RunDir = "/" + strings.Repeat("x", 100)
	for name, cfg := range map[string]Config{
		"no slots":      {Slots: 0},
		"no sockets":    {Slots: 2, Sockets: make([]Sockets, 1)},
		"no health":     {Slots: 1, Sockets: make([]Sockets, 1)},
		"long run path": long,
	} {
		if _, err := NewPool(cfg, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s is accepted", name)
		}
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

// TestProcessOfAnotherPlan gives a process that was pinned all CPUs back.
func TestProcessOfAnotherPlan(t *testing.T) {
	cpus := AllowedCPUs()
	cmd := exec.CommandContext(t.Context(), "cat")
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := startPinned(cmd, cpus[0]); err != nil {
		t.Fatal(err)
	}
	if err := pinProcess(cmd.Process.Pid, cpus...); err != nil {
		t.Fatal(err)
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(cmd.Process.Pid, &set); err != nil || set.Count() != len(cpus) {
		t.Errorf("the process may use %d CPUs of %d; %v", set.Count(), len(cpus), err)
	}
	_ = input.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestWorkerThatCannotBePinnedFloats(t *testing.T) {
	var log bytes.Buffer
	p := Pool{log: slog.New(slog.NewTextHandler(&log, nil))}
	cmd := exec.CommandContext(t.Context(), "true")
	if err := p.startProcess(cmd, 1000); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "not pinned") {
		t.Fatalf("log %q", log.String())
	}
}

func TestReportKeepsThePanicsFirstLines(t *testing.T) {
	r := &relay{log: slog.New(slog.DiscardHandler)}
	for i := range 100 {
		_, _ = fmt.Fprintf(r, "noise %d\n", i)
	}
	_, _ = fmt.Fprintf(r, "panic: why\n%s\n", strings.Repeat("y", 2*maxReportLine))
	for i := range 100 {
		_, _ = fmt.Fprintf(r, "where %d\n", i)
	}
	_, _ = r.Write([]byte("cut sho"))
	r.flush()
	lines := strings.Split(r.tailText(), "\n")
	if len(lines) != headLines+tailLines || lines[0] != "panic: why" || len(lines[1]) != maxReportLine || lines[len(lines)-1] != "cut sho" {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
}
