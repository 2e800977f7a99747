package process

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// allThreads stands for all threads of a process: goroutines run on any.
const allThreads = 0

// The states of a thread that count (proc_pid_stat(5)).
const (
	threadRuns    = 'R' // or is ready to
	threadSleeps  = 'S'
	threadStopped = 'T' // by a signal
	// threadHeld: the kernel keeps it from running: it waits for memory or a disk, or it is
	// in the cgroup freezer.
	threadHeld = 'D'
)

// vitals are what the system tells of a thread, or of all threads of a process together.
// All times are sums since its start, in nanoseconds; 0 where the system does not tell.
type vitals struct {
	state  byte
	ran    int64 // on a CPU
	waited int64 // ready to run, without one
	// stolen is how long the hypervisor kept the CPU that it is on from running.
	stolen int64
	cpu    int
}

// keptFromRunning reports whether something else keeps a thread or a process from running,
// for which it is not to be replaced. thawing: this process came back a moment ago, and who
// is stopped was perhaps stopped with it.
func keptFromRunning(v vitals, thawing bool) bool {
	return v.state == threadHeld || v.state == threadStopped && thawing
}

// vitalsOf reads the vitals of a thread, or of allThreads.
func vitalsOf(pid, thread int) vitals {
	tasks := "/proc/" + strconv.Itoa(pid) + "/task/"
	v := vitals{state: threadSleeps}
	if thread != allThreads {
		v.add(tasks + strconv.Itoa(thread))
	} else if threads, err := os.ReadDir(tasks); err == nil {
		for _, t := range threads {
			v.add(tasks + t.Name())
		}
	}
	if v.state == threadSleeps && frozen(pid) {
		v.state = threadHeld
	}
	stat, err := os.ReadFile("/proc/stat")
	if err == nil {
		v.stolen = stolenFrom(stat, v.cpu)
	}
	return v
}

// add counts a thread. Of several states the one that says most of the process stays: it
// runs if any of its threads does.
func (v *vitals) add(task string) {
	if ran, waited, ok := schedstat(task); ok {
		v.ran, v.waited = v.ran+ran, v.waited+waited
	}
	state, cpu, ok := threadStat(task)
	if !ok {
		return
	}
	const rising = string(threadSleeps) + string(threadStopped) + string(threadHeld) + string(threadRuns)
	if strings.IndexByte(rising, state) > strings.IndexByte(rising, v.state) {
		v.state = state
	}
	v.cpu = cpu
}

// schedstat reads how long a thread ran and how long it waited for a CPU.
func schedstat(task string) (ran, waited int64, ok bool) {
	b, err := os.ReadFile(task + "/schedstat") //nolint:gosec // below /proc
	fields := strings.Fields(string(b))
	if err != nil || len(fields) < 2 {
		return 0, 0, false
	}
	ran, err = strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return 0, 0, false
	}
	waited, err = strconv.ParseInt(fields[1], 10, 64)
	return ran, waited, err == nil
}

// threadStat reads a thread's state and the CPU that it is on, or was.
func threadStat(task string) (state byte, cpu int, ok bool) {
	b, err := os.ReadFile(task + "/stat") //nolint:gosec // below /proc
	if err != nil {
		return 0, 0, false
	}
	// Behind the name, which may hold anything, stands the third field; the CPU is the 39th.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	const cpuField = 39 - 3
	if len(fields) <= cpuField {
		return 0, 0, false
	}
	cpu, err = strconv.Atoi(string(fields[cpuField]))
	return fields[0][0], cpu, err == nil
}

// tick is the unit of the times in /proc/stat, on every architecture.
const tick = 10 * time.Millisecond

// stolenFrom reads from /proc/stat how long a CPU was kept from running; 0: not told.
func stolenFrom(stat []byte, cpu int) int64 {
	name := []byte("cpu" + strconv.Itoa(cpu))
	for line := range bytes.Lines(stat) {
		fields := bytes.Fields(line)
		const steal = 8
		if len(fields) <= steal || !bytes.Equal(fields[0], name) {
			continue
		}
		n, err := strconv.ParseInt(string(fields[steal]), 10, 64)
		if err != nil {
			return 0
		}
		return n * int64(tick)
	}
	return 0
}

// stopped reports whether a signal keeps a process from running: none of its own doing.
func stopped(pid int) bool {
	state, _, ok := threadStat("/proc/" + strconv.Itoa(pid))
	return ok && state == threadStopped
}

// frozen reports whether the freezer of the unified cgroup hierarchy keeps a process from
// running. Its threads look asleep; those in the older freezer are held.
func frozen(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		path, unified := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !unified {
			continue
		}
		for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
			events, err := os.ReadFile(filepath.Join(mount, path, "cgroup.events")) //nolint:gosec // below the mount
			if err == nil {
				return strings.Contains(string(events), "frozen 1")
			}
		}
	}
	return false
}
