package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// AllowedCPUs returns the CPUs that this process may use, as many as its CPU
// quota allows to use fully. It is empty where the system does not tell.
func AllowedCPUs() []int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil
	}
	var cpus []int
	for cpu := 0; cpu < len(set)*64 && len(cpus) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	// The runtime's own limit follows the cgroup's quota.
	return cpus[:min(len(cpus), max(runtime.GOMAXPROCS(0), 1))]
}

// startPinned starts the command with its affinity already set: a child inherits
// the mask of the thread that forks it.
func startPinned(cmd *exec.Cmd, cpu int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var old, pinned unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		return fmt.Errorf("read affinity: %w", err)
	}
	pinned.Set(cpu)
	if err := unix.SchedSetaffinity(0, &pinned); err != nil {
		return fmt.Errorf("pin to CPU %d: %w", cpu, err)
	}
	return errors.Join(cmd.Start(), unix.SchedSetaffinity(0, &old))
}

// pinProcess pins every thread of a running process. Threads that start meanwhile
// inherit the mask of their parent, so it looks again until it finds no new one.
func pinProcess(pid, cpu int) error {
	var pinned unix.CPUSet
	pinned.Set(cpu)
	done := map[int]bool{}
	for {
		entries, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
		if err != nil {
			return fmt.Errorf("list threads of process %d: %w", pid, err)
		}
		fresh := false
		for _, e := range entries {
			tid, err := strconv.Atoi(e.Name())
			if err != nil || done[tid] {
				continue
			}
			fresh, done[tid] = true, true
			if err := unix.SchedSetaffinity(tid, &pinned); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("pin process %d to CPU %d: %w", pid, cpu, err)
			}
		}
		if !fresh {
			return nil
		}
	}
}
