package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/mediasock"
)

// asWorker is the environment variable that makes the test binary the program.
const asWorker = "TEST_AS_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(asWorker) != "" {
		os.Exit(run())
	}
	os.Exit(m.Run())
}

// program is the command with its handoff socket; the parent's end is nil when it
// is started without.
func program(t *testing.T, inherit bool) (*exec.Cmd, *handoff.Conn, *bytes.Buffer) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = []string{asWorker + "=1"}
	var out bytes.Buffer
	cmd.Stderr = &out
	if !inherit {
		return cmd, nil, &out
	}
	parent, file, err := handoff.Pair()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{file}
	t.Cleanup(func() { _, _ = parent.Close(), file.Close() })
	return cmd, parent, &out
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit == nil {
		return 0
	}
	return exit.ExitCode()
}

func TestStartedByHand(t *testing.T) {
	cmd, _, out := program(t, false)
	if code := exitCode(t, cmd.Run()); code != handoff.ExitBadSettings {
		t.Errorf("exit code %d", code)
	}
	if text := out.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "started by hand") {
		t.Errorf("says %q", text)
	}
}

func TestExitCodes(t *testing.T) {
	for name, row := range map[string]struct {
		edit func(*handoff.Assign)
		want int
	}{
		"asked to end":   {nil, handoff.ExitOK},
		"bad settings":   {func(a *handoff.Assign) { a.LogLevel = "LOUD" }, handoff.ExitBadSettings},
		"cannot listen":  {func(a *handoff.Assign) { a.Socket += "/x/y" }, handoff.ExitFailure},
		"nobody to talk": {func(a *handoff.Assign) { a.OrphanTimeout = 1 }, handoff.ExitOK},
	} {
		t.Run(name, func(t *testing.T) {
			cmd, parent, out := program(t, true)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.ExtraFiles[0].Close()
			ready := assign(t, parent, row.edit)
			switch {
			case ready && row.edit == nil:
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			case ready:
				_ = parent.Close()
			}
			if code := exitCode(t, cmd.Wait()); code != row.want {
				t.Fatalf("exit code %d, want %d: %s", code, row.want, out)
			}
		})
	}
}

// assign takes the hello, gives the worker a slot, and says whether it is ready.
func assign(t *testing.T, parent *handoff.Conn, edit func(*handoff.Assign)) bool {
	t.Helper()
	pair, err := mediasock.Open(mediasock.Config{Family: mediasock.IPv4})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pair.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if m, _, err := parent.Receive(ctx); err != nil || m.Hello == nil {
		t.Fatalf("hello %+v, %v", m, err)
	}
	a := handoff.Assign{
		Socket: filepath.Join(t.TempDir(), "w.sock"), LogLevel: "INFO", OrphanTimeout: int64(time.Minute),
		Files: []string{handoff.FileUDP4, handoff.FileTCP4},
	}
	if edit != nil {
		edit(&a)
	}
	if err := parent.Send(handoff.Message{Assign: &a}, pair.UDP, pair.TCP); err != nil {
		t.Fatal(err)
	}
	m, _, err := parent.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return m.Ready != nil
}
