package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

const (
	reapEvery = 100 * time.Millisecond
	// endTimeout bounds the end of processes whose parent has stopped.
	endTimeout = 5 * time.Second
)

// reaper waits for processes whose parents were killed, as a machine's process 1
// does: this process is the subreaper of all that it starts.
type reaper struct {
	mu  sync.Mutex
	own map[int]bool // processes that others here wait for, guarded by mu
}

func newReaper() (*reaper, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become a subreaper: %w", err)
	}
	return &reaper{own: map[int]bool{}}, nil
}

// start starts a process that the caller waits for.
func (r *reaper) start(cmd *exec.Cmd) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := cmd.Start()
	if err == nil {
		r.own[cmd.Process.Pid] = true
	}
	return err
}

// ended is called after the caller waited.
func (r *reaper) ended(cmd *exec.Cmd) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.own, cmd.Process.Pid)
}

// run reaps until the context ends.
func (r *reaper) run(ctx context.Context) {
	for ctx.Err() == nil {
		r.reap()
		pause(ctx, reapEvery)
	}
	r.reap()
}

func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range processes() {
		if p.parent == os.Getpid() && p.state == "Z" && !r.own[p.pid] {
			var status unix.WaitStatus
			_, _ = unix.Wait4(p.pid, &status, unix.WNOHANG, nil) // it is dead
		}
	}
}

// nobodyLeft says which processes outlive the supervisor, and ends them.
func (r *reaper) nobodyLeft(ctx context.Context) (faults []error) {
	err := await(ctx, endTimeout, func() error {
		r.reap()
		if left := descendants(); len(left) > 0 {
			return fmt.Errorf("processes left: %v: %w", left, errs.ErrExists)
		}
		return nil
	})
	if err == nil {
		return nil
	}
	for _, p := range descendants() {
		_ = unix.Kill(p.pid, unix.SIGKILL)
	}
	pause(ctx, reapEvery)
	r.reap()
	return []error{err}
}

// proc is a process of the machine.
type proc struct {
	pid, parent int
	name, state string
}

func (p proc) String() string { return fmt.Sprintf("%s %d (%s)", p.name, p.pid, p.state) }

// processes reads all of the machine.
func processes() []proc {
	entries, _ := filepath.Glob("/proc/[0-9]*/stat")
	var all []proc
	for _, entry := range entries {
		text, err := os.ReadFile(entry) //nolint:gosec // of /proc
		if err != nil {
			continue // it has ended
		}
		// pid (name) state parent ...; the name may hold anything.
		head, tail, ok := strings.Cut(string(text), " (")
		end := strings.LastIndex(tail, ") ")
		if !ok || end < 0 {
			continue
		}
		fields := strings.Fields(tail[end+2:])
		pid, err := strconv.Atoi(head)
		parent, err2 := strconv.Atoi(fields[1])
		if errors.Join(err, err2) == nil {
			all = append(all, proc{pid: pid, parent: parent, name: tail[:end], state: fields[0]})
		}
	}
	return all
}

// descendants are the processes that this one started, and theirs.
func descendants() (found []proc) {
	all := processes()
	ours := map[int]bool{os.Getpid(): true}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if ours[p.parent] && !ours[p.pid] {
				ours[p.pid], grown = true, true
				found = append(found, p)
			}
		}
	}
	return found
}

// resident is the memory of a process in bytes.
func resident(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 3 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	shared, _ := strconv.ParseInt(fields[2], 10, 64)
	return (pages - shared) * int64(os.Getpagesize())
}

// descriptors counts the open files of a process by what they are.
func descriptors(pid int) map[string]int {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(dir)
	counts := map[string]int{}
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		kind, _, _ := strings.Cut(target, ":[") // socket:[123], pipe:[123]
		counts[kind]++
	}
	return counts
}

// signal sends a signal to a worker.
func signal(pid uint32, sig syscall.Signal) error {
	if pid == 0 {
		return fmt.Errorf("no process: %w", errs.ErrNotFound)
	}
	if err := unix.Kill(int(pid), sig); err != nil {
		return fmt.Errorf("%v to process %d: %w", sig, pid, err)
	}
	return nil
}
