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

// errNotPinned: the process was not started, for the affinity alone.
var errNotPinned = errors.New("affinity not set")

// PlanCPUs reads the CPUs and the CPU quota of this process.
func PlanCPUs() CPUPlan {
	quota, limited := cpuQuota(os.DirFS("/"))
	return planCPUs(AllowedCPUs(), quota, limited)
}

// AllowedCPUs returns the CPUs of this process's affinity mask, which a cpuset of its
// control group narrows. It is empty where the system does not tell.
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
	return cpus
}

// startPinned starts the command with its affinity already set: a child inherits
// the mask of the thread that forks it. An errNotPinned leaves the command as it was.
func startPinned(cmd *exec.Cmd, cpu int) error {
	result := make(chan error)
	go func() { result <- startOnPinnedThread(cmd, cpu) }()
	return <-result
}

// startOnPinnedThread wants a goroutine of its own: a thread whose mask cannot be
// restored stays locked and ends with it.
func startOnPinnedThread(cmd *exec.Cmd, cpu int) error {
	runtime.LockOSThread()
	var old, pinned unix.CPUSet
	pinned.Set(cpu)
	err := unix.SchedGetaffinity(0, &old)
	if err == nil {
		err = unix.SchedSetaffinity(0, &pinned)
	}
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("pin to CPU %d: %w: %w", cpu, errNotPinned, err)
	}
	err = cmd.Start()
	if unix.SchedSetaffinity(0, &old) == nil {
		runtime.UnlockOSThread()
	}
	return err
}

// pinProcess lets every thread of a running process run on those CPUs alone. Threads that
// start meanwhile inherit the mask of their parent, so it looks again until it finds no new
// one.
func pinProcess(pid int, cpus ...int) error {
	var pinned unix.CPUSet
	for _, cpu := range cpus {
		pinned.Set(cpu)
	}
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
				return fmt.Errorf("pin process %d to CPUs %v: %w", pid, cpus, err)
			}
		}
		if !fresh {
			return nil
		}
	}
}
