package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
)

// TestQuota runs two instances under CPU quotas on one machine: each has the workers that
// its quota carries, and may run them on every CPU.
func TestQuota(t *testing.T) {
	own, err := procStatus(os.Getpid(), "Cpus_allowed_list")
	if err != nil || !strings.ContainsAny(own, ",-") {
		t.Skipf("NOT TESTED: a quota cannot be less than one CPU's worth of masks here: %q, %v", own, err)
	}
	for _, quota := range []float64{1, 0.5} {
		for range 2 { // both run until the test's end
			group := newCPUGroup(t, quota)
			s := startServer(t, settings{program: group.program(t), args: []string{"--workers", "0"}})
			workers := s.readyWorkers(t)
			if n := len(workers); n != 1 {
				t.Errorf("%d workers with a quota of %v", n, quota)
			}
			for _, w := range workers {
				if cpus, err := procStatus(int(w.GetPid()), "Cpus_allowed_list"); err != nil || cpus != own {
					t.Errorf("worker %d may run on %s, want %s; %v", w.GetSlot(), cpus, own, err)
				}
			}
			eventually(t, answerTimeout, s.logs("workers are not pinned"))
		}
	}
}

// TestPinnedWithoutQuota: nothing limits the workers, so each has a CPU, and the kernel
// would kill each before the supervisor.
func TestPinnedWithoutQuota(t *testing.T) {
	s := startServer(t, settings{workers: 2})
	supervisor := oomScore(t, s.cmd.Process.Pid)
	for _, w := range s.readyWorkers(t) {
		cpus, err := procStatus(int(w.GetPid()), "Cpus_allowed_list")
		if err != nil || strings.ContainsAny(cpus, ",-") {
			t.Errorf("worker %d may run on %s; %v", w.GetSlot(), cpus, err)
		}
		if score := oomScore(t, int(w.GetPid())); score != min(supervisor+200, 1000) {
			t.Errorf("worker %d has oom_score_adj %d, the supervisor %d", w.GetSlot(), score, supervisor)
		}
	}
}

// readyWorkers waits until all workers serve.
func (s *server) readyWorkers(t *testing.T) (workers []*adminv1.Worker) {
	t.Helper()
	admin := s.admin(t)
	eventually(t, startTimeout, func() error {
		list, err := admin.ListWorkers(t.Context(), &adminv1.ListWorkersRequest{})
		workers = list.GetWorkers()
		for _, w := range workers {
			if w.GetState() != "ready" {
				return fmt.Errorf("worker %d is %s", w.GetSlot(), w.GetState())
			}
		}
		return err
	})
	return workers
}

func oomScore(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// procStatus is a field of a process's status.
func procStatus(pid int, field string) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("%s of process %d: %w", field, pid, errMissing)
}

// cpuGroup is a control group with a CPU quota.
type cpuGroup struct{ dir string }

// newCPUGroup makes one inside another with a larger quota. It skips the test where that is
// not allowed.
func newCPUGroup(t *testing.T, quota float64) cpuGroup {
	t.Helper()
	const period = 100_000
	micros := strconv.Itoa(int(quota * period))
	files := map[string]string{"cpu.cfs_quota_us": micros}
	mount := "/sys/fs/cgroup/cpu"
	if _, err := os.Stat(mount + "/cpu.cfs_quota_us"); err != nil { // version 2
		files, mount = map[string]string{"cpu.max": micros + " " + strconv.Itoa(period)}, "/sys/fs/cgroup"
	}
	parent := filepath.Join(mount, fmt.Sprintf("dspeak-%d-%d", os.Getpid(), lab.next()))
	dir := filepath.Join(parent, "inner") // the tighter quota is the parent's
	for _, path := range []string{parent, dir} {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Skipf("NOT TESTED: no control group here: %v", err)
		}
		t.Cleanup(func() { _ = os.Remove(path) })
	}
	for name, value := range files {
		if err := os.WriteFile(filepath.Join(parent, name), []byte(value), 0o600); err != nil {
			t.Skipf("NOT TESTED: no CPU quota here: %v", err)
		}
	}
	return cpuGroup{dir: dir}
}

// program is a supervisor that starts in the group.
func (g cpuGroup) program(t *testing.T) string {
	t.Helper()
	return shellScript(t, "echo $$ > "+g.dir+"/cgroup.procs", "exec "+bin.supervisor+` "$@"`)
}

// shellScript writes a shell script that ends with the first command that fails.
func shellScript(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	text := "#!/bin/sh\nset -e\n" + strings.Join(lines, "\n") + "\n"
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}
