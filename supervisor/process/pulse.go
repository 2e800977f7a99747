package process

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/dspeak/sfu/internal/ledgerfile"
	"github.com/dspeak/sfu/internal/obs"
)

const (
	// pulseInterval is how often a worker's beats are looked at.
	pulseInterval = 50 * time.Millisecond
	// longestStep is what one look counts at most, however late it comes.
	longestStep = 2 * pulseInterval
	// A loop turns at least every 100 ms, and so does the control side beat: what did not
	// for standsStill is hung.
	standsStill = 350 * time.Millisecond
	// suspicious is from when on it is asked what the loop's thread waits for.
	suspicious = 150 * time.Millisecond
)

// pulse decides whether a part of a worker stands still, by its beats in the ledger.
//
// Only time in which it could have moved counts. What does not: time in which this process
// did not look itself; time in which the thread was ready but had no CPU, for the machine
// is busy then and a new process would fare no better; and time in which the kernel held
// it. A stopped thread and one that runs in circles wait for none of these. A stopped one
// is let be for a moment after this process stood still, until it has moved once: it may
// have been stopped with it.
//
// All times are in nanoseconds.
type pulse struct {
	read func(thread int) vitals

	beat    int64 // the last one seen
	looked  int64 // when this process last looked
	stood   int64 // how long the part has stood still
	counted int64 // what was added to stood since last was read
	renewed bool  // the patience has begun anew once since the beat
	known   bool  // last and crowd are set
	thread  int   // the one that was looked at
	last    vitals
	since   int64  // when last was read
	ahead   int64  // part of a wait for a CPU that is excused, but not in last.waited yet
	first   vitals // as of the first reading since the beat
	crowd   vitals // all threads, then
	began   int64  // when that was
}

// still reports whether the part stands still. thawed is when this process last came back
// from a standstill of its own; 0: never.
func (p *pulse) still(now, beat, thawed int64, thread int) bool {
	if beat == 0 {
		return false
	}
	if beat != p.beat {
		*p = pulse{read: p.read, beat: beat, looked: now, stood: min(now-beat, int64(longestStep))}
		return false
	}
	step := now - p.looked
	p.looked = now
	if step >= int64(lagNoticed) && !p.renewed {
		// It stood still with this process. Once in a beat, or one who never catches up would
		// never find anything.
		p.renewed, p.known, p.stood, p.counted = true, false, 0, 0
		return false
	}
	step = min(step, int64(longestStep))
	p.stood += step
	p.counted += step
	if p.stood < int64(suspicious) {
		return false
	}
	p.examine(now, thawed, thread)
	return p.stood >= int64(standsStill)
}

// examine takes what is excused off the time for which the part has stood still.
func (p *pulse) examine(now, thawed int64, thread int) {
	v := p.read(thread)
	if p.known && thread == p.thread {
		thawing := thawed != 0 && now-thawed < int64(thawPatience) && p.beat < thawed
		p.stood -= min(p.excuse(v, now-p.since, thawing), p.counted)
	} else {
		p.first, p.crowd, p.began, p.ahead = v, p.read(allThreads), now, 0
	}
	p.thread, p.last, p.since, p.known, p.counted = thread, v, now, true, 0
}

// excuse is for how much of the time since the last reading the part could not move.
func (p *pulse) excuse(v vitals, passed int64, thawing bool) int64 {
	waited := max(v.waited-p.last.waited, 0) // less: a thread has ended
	settled := min(waited, p.ahead)
	p.ahead -= settled
	excused := waited - settled
	if v.cpu == p.last.cpu {
		excused += max(v.stolen-p.last.stolen, 0)
	}
	switch {
	case keptFromRunning(v, thawing):
		excused = passed
	case v.state == threadRuns:
		// A wait is booked when it is over: this one goes on.
		if idle := passed - max(v.ran-p.last.ran, 0) - excused - settled; idle > 0 {
			excused += idle
			p.ahead += idle
		}
	}
	return excused
}

// guilty reports whether there is evidence that a loop which stands still hangs of the code
// that it is in, and of nothing around it: its thread has run for most of the time that
// counts, or it has slept while the rest of the process went on. answered is when the control side last beat.
func (p *pulse) guilty(now, answered int64) bool {
	if !p.known {
		return false
	}
	ran := p.last.ran - p.first.ran
	if p.last.cpu == p.first.cpu {
		ran -= p.last.stolen - p.first.stolen
	}
	if ran >= int64(standsStill-suspicious)/2 {
		return true
	}
	alive := answered > p.beat && now-answered < int64(suspicious)
	return alive && p.last.state == threadSleeps && p.read(allThreads).waited-p.crowd.waited < (now-p.began)/2
}

// checkPulse returns that the worker's media loop or control side hangs, nothing when ctx
// ends first or there is no ledger to see it by.
func (m *monitor) checkPulse(ctx context.Context, ledger *os.File, pid int) finding {
	if ledger == nil {
		return finding{}
	}
	view, err := ledgerfile.OpenHeader(ledger)
	if err != nil {
		m.keeper.log.Warn("the worker's pulse cannot be felt", obs.Err(err))
		return finding{}
	}
	defer func() { _ = view.Close() }() // it is mapped
	ticker := time.NewTicker(pulseInterval)
	defer ticker.Stop()
	read := func(thread int) vitals { return vitalsOf(pid, thread) }
	loop, control := pulse{read: read}, pulse{read: read}
	for {
		select {
		case <-ctx.Done():
			return finding{}
		case <-ticker.C:
		}
		now := ledgerfile.Now()
		thawed := m.keeper.pool.attention.look(now)
		turned, answered := view.Beats()
		if view.Generation() != uint64(m.from.Generation) {
			continue // its predecessor's
		}
		if loop.still(now, turned, thawed, view.LoopThread()) {
			return finding{
				cause: fmt.Sprintf("hung: the media loop stands still for %v", time.Duration(now-turned)),
				hung:  true, guilty: loop.guilty(now, answered),
			}
		}
		if control.still(now, answered, thawed, allThreads) {
			return finding{cause: fmt.Sprintf("hung: the control side stands still for %v", time.Duration(now-answered)), hung: true}
		}
	}
}
