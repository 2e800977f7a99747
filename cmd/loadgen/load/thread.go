package load

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// raise gives the calling thread, which must be locked, a priority that keeps it
// on time where that is allowed: SCHED_FIFO for a thread with little work,
// SCHED_NORMAL with a better nice value for one with much. The returned function
// takes it back.
func raise(policy uint32) (back func()) {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Nice: -10, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
	if policy == unix.SCHED_FIFO {
		attr.Nice, attr.Priority = 0, 1
	}
	if unix.SchedSetAttr(0, &attr, 0) != nil {
		return func() {} // not allowed: PacerLate and EngineShare tell what it costs
	}
	return func() {
		_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr}, 0) // lowering is always allowed
	}
}

// pin binds all threads of this process, and those that they will start, to a CPU.
func pin(cpu int) error {
	var mask unix.CPUSet
	mask.Set(cpu)
	for range 2 { // again for those that were started meanwhile
		entries, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("read own threads: %w", err)
		}
		for _, entry := range entries {
			thread, err := strconv.Atoi(entry.Name())
			if err == nil {
				err = unix.SchedSetaffinity(thread, &mask)
			}
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("pin to CPU %d: %w", cpu, err)
			}
		}
	}
	return nil
}
