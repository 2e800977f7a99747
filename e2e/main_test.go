package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// bin has the programs under test; TestMain builds them once.
var bin struct {
	dir, supervisor, worker, dspeakctl, loadgen string
	// raced says that the programs, too, look for data races.
	raced bool
}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "dspeak-e2e-")
	if err != nil {
		return 1, fmt.Errorf("folder for the programs: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { // another user starts them in a test
		return 1, fmt.Errorf("folder for the programs: %w", err)
	}
	if err := build(dir); err != nil {
		return 1, err
	}
	code = m.Run()
	lab.close()
	if leak := goleak.Find(); leak != nil && code == 0 {
		return 1, leak
	}
	return code, nil
}

func build(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	args := []string{"build", "-o", dir + "/"}
	if raceEnabled {
		args = append(args, "-race")
		bin.raced = true
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/...")...)
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	bin.dir = dir
	bin.supervisor = filepath.Join(dir, "supervisor")
	bin.worker = filepath.Join(dir, "worker")
	bin.dspeakctl = filepath.Join(dir, "dspeakctl")
	bin.loadgen = filepath.Join(dir, "loadgen")
	return nil
}

// eventually asks again and again until the check has no complaint, and fails
// the test with the last one after the time limit.
func eventually(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	if err := waitFor(t.Context(), limit, check); err != nil {
		t.Fatal(err)
	}
}

func waitFor(ctx context.Context, limit time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %v: %w", limit, err)
		case <-tick.C:
		}
	}
}

// running are the processes of the project's programs that a test started in a folder,
// each with its process id and name. Workers stay in their supervisor's folder.
func running(folder string) []string {
	entries, _ := filepath.Glob("/proc/[0-9]*/exe")
	var found []string
	for _, entry := range entries {
		program, err := os.Readlink(entry)
		at, cwdErr := os.Readlink(filepath.Join(filepath.Dir(entry), "cwd"))
		if err == nil && cwdErr == nil && strings.HasPrefix(program, bin.dir+"/") && at == folder {
			found = append(found, strings.Split(entry, "/")[2]+" "+filepath.Base(program))
		}
	}
	return found
}
