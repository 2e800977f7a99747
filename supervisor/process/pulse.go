package process

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dspeak/sfu/internal/ledgerfile"
	"github.com/dspeak/sfu/internal/obs"
)

const (
	// pulseInterval is how often a worker's beats are looked at.
	pulseInterval = 50 * time.Millisecond
	// A loop turns at least every 100 ms, and so does the control side beat: what did not
	// for standsStill is hung.
	standsStill = 350 * time.Millisecond
	// suspicious is from when on it is asked what the loop's thread waits for.
	suspicious = 150 * time.Millisecond
)

// pulse decides whether a part of a worker stands still, by its beats in the ledger.
type pulse struct {
	beat   int64 // the last one seen
	thread int   // the one that was looked at, once known is set
	known  bool
	delay  int64 // how long that thread had waited for a CPU by then
	waited int64 // how long it has since that became suspicious
}

// still says whether the part stands still. Time in which its thread was ready to run
// but had no CPU does not count: the machine is busy then, and a new process would
// fare no better. A stopped thread and one that runs in circles wait for none. All in
// nanoseconds; runDelay tells how long the thread has waited so far.
func (p *pulse) still(now, beat int64, thread int, runDelay func(thread int) int64) bool {
	if beat != p.beat {
		*p = pulse{beat: beat}
	}
	age := time.Duration(now - beat)
	if beat == 0 || age < suspicious {
		return false
	}
	delay := runDelay(thread)
	if p.known && thread == p.thread {
		p.waited += max(delay-p.delay, 0) // less: a thread has ended
	}
	p.thread, p.delay, p.known = thread, delay, true
	return age-time.Duration(p.waited) >= standsStill
}

// checkPulse returns why the worker's media loop or control side counts as hung, "" when ctx ends first
// or there is no ledger to see it by.
func (m *monitor) checkPulse(ctx context.Context, ledger *os.File, pid int) string {
	if ledger == nil {
		return ""
	}
	view, err := ledgerfile.OpenHeader(ledger)
	if err != nil {
		m.keeper.log.Warn("the worker's pulse cannot be felt", obs.Err(err))
		return ""
	}
	defer func() { _ = view.Close() }() // it is mapped
	ticker := time.NewTicker(pulseInterval)
	defer ticker.Stop()
	var loop, control pulse
	delay := func(thread int) int64 { return runDelay(pid, thread) }
	for {
		select {
		case <-ctx.Done():
			return ""
		case <-ticker.C:
		}
		turned, answered := view.Beats()
		if view.Generation() != uint64(m.from.Generation) {
			continue // its predecessor's
		}
		now := ledgerfile.Now()
		if loop.still(now, turned, view.LoopThread(), delay) {
			return fmt.Sprintf("hung: the media loop stands still for %v", time.Duration(now-turned))
		}
		if control.still(now, answered, allThreads, delay) {
			return fmt.Sprintf("hung: the control side stands still for %v", time.Duration(now-answered))
		}
	}
}

// allThreads stands for all threads of a process: goroutines run on any.
const allThreads = 0

// runDelay is how long a thread was ready to run without a CPU, in nanoseconds (the
// second field of schedstat, proc(5)), all threads together for allThreads; 0 where the
// system does not tell.
func runDelay(pid, thread int) int64 {
	tasks := "/proc/" + strconv.Itoa(pid) + "/task/"
	if thread != allThreads {
		return runDelayOf(tasks + strconv.Itoa(thread))
	}
	threads, err := os.ReadDir(tasks)
	if err != nil {
		return 0
	}
	sum := int64(0)
	for _, t := range threads {
		sum += runDelayOf(tasks + t.Name())
	}
	return sum
}

func runDelayOf(task string) int64 {
	b, err := os.ReadFile(task + "/schedstat") //nolint:gosec // below /proc
	fields := strings.Fields(string(b))
	if err != nil || len(fields) < 2 {
		return 0
	}
	n, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return n
}
