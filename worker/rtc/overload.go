package rtc

import (
	"math/rand/v2"
	"time"
)

// When the loop has more to forward than it can, packets grow old in the kernel's
// receive buffer. Forwarding is what costs, so once that goes on for a while, packets
// that have waited too long are received and booked, but not forwarded: none up to freshFor, all from staleFor on,
// and between the two a share that grows with their age. The age settles where that
// share is what the loop cannot do, far below what the buffer could hold.
//
// Which packet it hits is chance: streams come in the same order every 20 ms, and a
// fixed rule would silence the same speakers each time. All receivers of a speaker
// lose the same packets, and every speaker the same share, so that nobody who listens
// loses more than another. Checks and handshakes are never left out.
//
// After a standstill what has waited for a second is left out at once: it would only delay
// what follows.
const (
	freshFor = 40 * time.Millisecond
	staleFor = 120 * time.Millisecond
	// behindFor is the age that packets reach only if the loop does not keep up.
	behindFor = 10 * time.Millisecond
	// sustainedFor is how long packets must have been old without a break: a process that
	// had no CPU for a moment, or took over from another, works off what gathered.
	sustainedFor = 500 * time.Millisecond
	// believedAge is the largest age that a packet may have: the clock was set if it
	// seems older.
	believedAge = 10 * time.Second
)

// tooLate says whether a packet of that age is left out. draw is uniform in [0, 1).
func tooLate(age time.Duration, draw func() float64) bool {
	switch {
	case age <= freshFor:
		return false
	case age >= staleFor:
		return true
	default:
		return draw() < float64(age-freshFor)/float64(staleFor-freshFor)
	}
}

// leaveOut says whether a packet that arrived at that instant is not forwarded, and
// counts it.
func (l *Loop) leaveOut(p *producer, at instant) bool {
	age := time.Duration(l.now - at)
	if age > behindFor {
		l.pace.behind()
	}
	if age <= freshFor {
		l.oldSince = 0
		return false
	}
	if l.oldSince == 0 {
		l.oldSince = l.now
	}
	if hopeless := age >= stale && l.backlogged(); !hopeless && (l.now-l.oldSince < instant(sustainedFor) || !tooLate(age, rand.Float64)) {
		return false
	}
	p.late++
	l.count.late++
	return true
}
