package load

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/dspeak/sfu/internal/errs"
)

// CPUTime returns the CPU time that the process's threads have used, in
// nanoseconds of the scheduler's own account (/proc/PID/task/TID/schedstat).
func CPUTime(pid int) (time.Duration, error) {
	tasks := fmt.Sprintf("/proc/%d/task", pid)
	entries, err := os.ReadDir(tasks)
	if err != nil {
		return 0, fmt.Errorf("read threads of process %d: %w", pid, err)
	}
	var sum time.Duration
	for _, e := range entries {
		ran, err := ranTime(filepath.Join(tasks, e.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH) { // the thread has ended
			return 0, err
		}
		sum += ran
	}
	return sum, nil
}

// ranTime returns the CPU time that a thread has used, by its directory below /proc.
func ranTime(task string) (time.Duration, error) {
	b, err := os.ReadFile(filepath.Join(task, "schedstat")) //nolint:gosec // a path below /proc
	if err != nil {
		return 0, fmt.Errorf("read thread: %w", err)
	}
	first, _, _ := bytes.Cut(b, []byte(" "))
	ns, err := strconv.ParseInt(string(first), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("parse schedstat of %s: %w", task, err)
	}
	return time.Duration(ns), nil
}

// residentBytes returns the resident memory of the process, counted page by page
// (/proc/PID/smaps_rollup; the counters of statm lag behind).
func residentBytes(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
	}
	_, after, _ := bytes.Cut(b, []byte("\nRss:"))
	number, _, ok := bytes.Cut(after, []byte("kB"))
	kib, err := strconv.ParseUint(string(bytes.TrimSpace(number)), 10, 64)
	if err != nil || !ok {
		return 0, fmt.Errorf("memory of process %d: unexpected form %q: %w", pid, b, errs.ErrInvalid)
	}
	return kib * 1024, nil
}

// usage is a reading of all measured processes.
type usage struct {
	cpu      time.Duration
	resident uint64
}

func readUsage(pids []int) (usage, error) {
	var u usage
	for _, pid := range pids {
		cpu, err := CPUTime(pid)
		if err != nil {
			return usage{}, err
		}
		rss, err := residentBytes(pid)
		if err != nil {
			return usage{}, err
		}
		u.cpu += cpu
		u.resident += rss
	}
	return u, nil
}

// ownUsage is the CPU time of this process and of its two threads that matter.
type ownUsage struct{ all, engine, pacer time.Duration }

func readOwnUsage(engine, pacer int64) (ownUsage, error) {
	all, err := CPUTime(os.Getpid())
	if err != nil {
		return ownUsage{}, err
	}
	u := ownUsage{all: all}
	if u.engine, err = ranTime(fmt.Sprintf("/proc/self/task/%d", engine)); err != nil {
		return ownUsage{}, err
	}
	u.pacer, err = ranTime(fmt.Sprintf("/proc/self/task/%d", pacer))
	return u, err
}
