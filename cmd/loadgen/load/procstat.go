package load

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// cpuTime returns the CPU time that the process's threads have used, in
// nanoseconds of the scheduler's own account (/proc/PID/task/TID/schedstat).
func cpuTime(pid int) (time.Duration, error) {
	tasks := fmt.Sprintf("/proc/%d/task", pid)
	entries, err := os.ReadDir(tasks)
	if err != nil {
		return 0, fmt.Errorf("read threads of process %d: %w", pid, err)
	}
	var sum time.Duration
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(tasks, e.Name(), "schedstat")) //nolint:gosec // a path below /proc
		if err != nil {
			continue // the thread ended meanwhile
		}
		fields := bytes.Fields(b)
		if len(fields) == 0 {
			continue
		}
		ns, err := strconv.ParseInt(string(fields[0]), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("parse schedstat of process %d: %w", pid, err)
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// residentBytes returns the resident set size of the process.
func residentBytes(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0, fmt.Errorf("memory of process %d: unexpected form %q", pid, b)
	}
	pages, err := strconv.ParseUint(string(fields[1]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("parse memory of process %d: %w", pid, err)
	}
	return pages * uint64(os.Getpagesize()), nil
}

// usage is a reading of all measured processes.
type usage struct {
	cpu      time.Duration
	resident uint64
}

func readUsage(pids []int) (usage, error) {
	var u usage
	for _, pid := range pids {
		cpu, err := cpuTime(pid)
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
