package process

import (
	"os"
	"testing"
	"time"
)

// phase is a part of a simulated worker's life: so many looks, each so long after the one
// before. Without a step it is pulseInterval.
type phase struct {
	looks int
	step  time.Duration
	beats bool
	// The thread's state, and how it spends its time; the rest of it, it sleeps.
	state               byte
	ran, waits, stolen  float64
	resting, othersWait bool // of the process: the control side does not beat, the threads wait for a CPU
	unbooked            bool // the wait goes on: the system has not counted it yet
}

// life is a simulated worker, as this process sees it.
type life struct {
	now, beat, answered, thawed int64
	loop, crowd                 vitals
	attention                   attention
	unbooked                    int64
	pulse                       pulse
}

func newLife() *life {
	l := &life{now: int64(time.Hour)}
	l.attention.look(l.now)
	l.beat, l.answered = l.now, l.now
	l.loop.state = threadSleeps
	l.pulse.read = func(thread int) vitals {
		if thread == allThreads {
			return l.crowd
		}
		return l.loop
	}
	return l
}

// live plays a phase and returns after how many looks the loop counts as hung, 0: it does
// not.
func (l *life) live(f phase) int {
	for look := range f.looks {
		step := f.step
		if step == 0 {
			step = pulseInterval
		}
		l.now += int64(step)
		l.loop.ran += int64(f.ran * float64(step))
		l.loop.stolen += int64(f.stolen * float64(step))
		if l.unbooked += int64(f.waits * float64(step)); !f.unbooked {
			l.loop.waited += l.unbooked
			l.unbooked = 0
		}
		if l.loop.state = f.state; f.state == 0 {
			l.loop.state = threadSleeps
		}
		if f.othersWait {
			l.crowd.waited += int64(step)
		}
		if f.beats {
			l.beat = l.now
		}
		if f.beats || !f.resting {
			l.answered = l.now
		}
		l.thawed = l.attention.look(l.now)
		if l.pulse.still(l.now, l.beat, l.thawed, 7) {
			return look + 1
		}
	}
	return 0
}

// ordinary is after how many looks a worker that stands still is found.
const ordinary = int((standsStill + pulseInterval - 1) / pulseInterval)

func TestPulse(t *testing.T) {
	healthy := phase{looks: 20, beats: true}
	const ms = time.Millisecond
	for name, row := range map[string]struct {
		phases []phase // the last one may find it hung, no other
		found  int     // after so many looks of the last; 0: not
		guilty bool
	}{
		"beats":               {[]phase{{looks: 1000, beats: true}}, 0, false},
		"beats once a 100 ms": {[]phase{{looks: 100, step: 100 * ms, beats: true}}, 0, false},
		"runs in circles":     {[]phase{healthy, {looks: 50, state: threadRuns, ran: 1}}, ordinary, true},
		"sleeps in its code":  {[]phase{healthy, {looks: 50}}, ordinary, true},
		"sleeps while the rest of the process does not move": {[]phase{healthy, {looks: 50, resting: true}}, ordinary, false},
		"sleeps while the rest of the process has no CPU":    {[]phase{healthy, {looks: 50, othersWait: true}}, ordinary, false},
		"is stopped alone":                       {[]phase{healthy, {looks: 50, state: threadStopped, resting: true}}, ordinary, false},
		"has no CPU":                             {[]phase{healthy, {looks: 1000, state: threadRuns, waits: 1}}, 0, false},
		"has no CPU, and the wait is not booked": {[]phase{healthy, {looks: 1000, state: threadRuns, waits: 1, unbooked: true}}, 0, false},
		"had no CPU, now it runs in circles": {
			[]phase{healthy, {looks: 100, state: threadRuns, waits: 1, unbooked: true}, {looks: 20, state: threadRuns, ran: 1}}, 5, true,
		},
		"runs in circles with a third of a CPU": {
			[]phase{healthy, {looks: 100, state: threadRuns, ran: 1. / 3, waits: 2. / 3}}, 15, true,
		},
		"its CPU is stolen": {[]phase{healthy, {looks: 1000, state: threadRuns, ran: 1, stolen: 1}}, 0, false},
		"half of its CPU is stolen, and it runs in circles": {
			[]phase{healthy, {looks: 100, state: threadRuns, ran: 1, stolen: 0.5}}, 11, true,
		},
		"waits for memory": {[]phase{healthy, {looks: 1000, state: threadHeld}}, 0, false},
		"is frozen alone, and hangs afterwards": {
			[]phase{healthy, {looks: 1000, state: threadHeld, resting: true}, {looks: 20, state: threadRuns, ran: 1}}, 4, true,
		},
		"everything stands still together": {
			[]phase{healthy, {looks: 1, step: 30 * time.Second, resting: true}, {looks: 3}, healthy}, 0, false,
		},
		"everything stands still together again and again": {
			[]phase{
				healthy, {looks: 1, step: 2 * time.Second}, {looks: 2}, healthy, {looks: 1, step: 90 * time.Second}, {looks: 2}, healthy,
			}, 0, false,
		},
		"this process comes back first, workers seconds later": {
			[]phase{healthy, {looks: 1, step: 2 * time.Second, state: threadStopped}, {looks: 100, state: threadStopped, resting: true}, healthy}, 0, false,
		},
		"this process comes back first, the worker never": {
			[]phase{healthy, {looks: 1, step: 2 * time.Second, state: threadStopped}, {looks: 1000, state: threadStopped, resting: true}},
			int(thawPatience/pulseInterval) + 3, false,
		},
		"everything comes back, and then the worker is stopped alone": {
			[]phase{healthy, {looks: 1, step: 30 * time.Second, state: threadStopped}, healthy, {looks: 50, state: threadStopped, resting: true}},
			ordinary, false,
		},
		"the worker hangs when everything comes back": {
			[]phase{healthy, {looks: 1, step: 30 * time.Second}, {looks: 20, state: threadRuns, ran: 1}}, ordinary, true,
		},
		"this process alone is late": {[]phase{healthy, {looks: 50, step: 400 * ms, beats: true}}, 0, false},
		"this process is late each time, and the worker hangs": {
			[]phase{healthy, {looks: 20, step: 600 * ms, state: threadRuns, ran: 1}}, 5, true,
		},
		"this process is a little late, the worker had not beaten yet": {
			[]phase{healthy, {looks: 1, step: 450 * ms}, {looks: 4}, healthy}, 0, false,
		},
		"comes back in time": {[]phase{healthy, {looks: ordinary - 1, state: threadRuns, ran: 1}, healthy}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLife()
			for i, f := range row.phases {
				found := l.live(f)
				if last := i == len(row.phases)-1; last && found != row.found || !last && found != 0 {
					t.Fatalf("phase %d: found after %d looks, want %d", i, found, row.found)
				}
			}
			if row.found != 0 && l.pulse.guilty(l.now, l.answered) != row.guilty {
				t.Fatalf("guilty is %v", !row.guilty)
			}
		})
	}
}

func TestPulseBeforeTheFirstBeat(t *testing.T) {
	l := newLife()
	l.beat = 0
	if found := l.live(phase{looks: 1000}); found != 0 {
		t.Fatalf("found after %d looks", found)
	}
}

func TestAttention(t *testing.T) {
	var a attention
	now := int64(time.Hour)
	if a.thawing(now) {
		t.Error("it has come back at once")
	}
	for range 100 {
		now += int64(lagNoticed) - 1
		if a.thawing(now) {
			t.Fatal("it has come back without a standstill")
		}
	}
	now += int64(lagNoticed)
	if thawed := a.look(now); thawed != now {
		t.Fatalf("it came back at %d, not %d", thawed, now)
	}
	for end := now + int64(thawPatience); now < end; now += int64(pulseInterval) {
		if !a.thawing(now) {
			t.Fatal("it came back only a moment ago")
		}
	}
	if a.thawing(now) {
		t.Fatal("it came back long ago")
	}
}

func TestVitals(t *testing.T) {
	own := vitalsOf(os.Getpid(), os.Getpid())
	if gone := vitalsOf(os.Getpid(), -1); gone.ran != 0 || gone.waited != 0 || gone.state != threadSleeps {
		t.Errorf("a thread that is not there: %+v", gone)
	}
	all := vitalsOf(os.Getpid(), allThreads)
	if all.ran < own.ran || all.waited < own.waited || all.ran == 0 || all.state != threadRuns {
		t.Errorf("all threads together %+v, one of them %+v", all, own)
	}
}

func TestStolenFrom(t *testing.T) {
	stat := []byte("cpu  4 0 4 4 4 0 4 90 0 0\ncpu0 1 0 1 1 1 0 1 7 0 0\ncpu1 1 0 1 1 1 0 1 12 0 0\ncpu10 1 0 1 1\ncpu2 1 0 1 1 1 0 1 x 0 0\nintr 8\n")
	for cpu, want := range map[int]int64{0: 7 * int64(tick), 1: 12 * int64(tick), 2: 0, 3: 0, 10: 0} {
		if got := stolenFrom(stat, cpu); got != want {
			t.Errorf("of CPU %d are stolen %d, want %d", cpu, got, want)
		}
	}
	if stolenFrom(nil, 0) != 0 {
		t.Error("stolen from nowhere")
	}
}
