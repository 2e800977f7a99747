package process

import "time"

// steadyReadings is how many readings in a row a load must last to count: a burst of
// handshakes is no load that stays.
const steadyReadings = 5

// Load is how much of a CPU a worker needs, without peaks.
type Load struct {
	// Share is the least of the last few readings, as a share of a CPU.
	Share float64
	// Since is when the oldest of these readings began: Share may not contain what the
	// worker got later. The zero time means that there is no reading.
	Since time.Time
}

// reading is the share of a CPU that a worker used from a moment on.
type reading struct {
	began time.Time
	share float64
}

// readings are the last readings of the state of one slot, whatever process had it.
// The zero value has none.
type readings struct {
	last [steadyReadings]reading
	n    int // of last are in use
}

// add takes a reading in.
func (r *readings) add(began time.Time, share float64) {
	if r.n == len(r.last) {
		copy(r.last[:], r.last[1:])
		r.n--
	}
	r.last[r.n] = reading{began, share}
	r.n++
}

// load returns what the readings say together.
func (r *readings) load() Load {
	if r.n == 0 {
		return Load{}
	}
	l := Load{Share: r.last[0].share, Since: r.last[0].began}
	for _, each := range r.last[1:r.n] {
		l.Share = min(l.Share, each.share)
	}
	return l
}

// meter turns a process's CPU time into readings. The zero value is ready.
type meter struct {
	began time.Time
	used  time.Duration
}

// read takes the CPU time that the process had used between asked and now. It returns
// the share of a CPU since the last call; ok is false at the first.
func (m *meter) read(asked, now time.Time, used time.Duration) (r reading, ok bool) {
	former := *m
	m.began, m.used = asked, used
	elapsed := now.Sub(former.began)
	if former.began.IsZero() || elapsed <= 0 {
		return reading{}, false
	}
	return reading{former.began, max(0, float64(used-former.used)/float64(elapsed))}, true
}
