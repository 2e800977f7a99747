package rtc

import "time"

const (
	// standstillFrom is how long a turn must take for the loop to say that it stood still,
	// with its process or its host: a turn ends within idleWait.
	standstillFrom = 500 * time.Millisecond
	// backlogFor is how long after that packets may come that are as old as the standstill.
	backlogFor = 5 * time.Second
	// stale is the age from which on nobody has a use for a packet of speech.
	stale = time.Second
)

// standstill is what the loop knows of the last time that it stood still.
type standstill struct {
	from  time.Duration // how long a turn must take; 0: never
	ended instant       // 0: there was none
	took  time.Duration
}

// noteTurn takes the length of a turn. Clients must not pay for a standstill, in which
// nobody heard and answered them: their times begin later by as much.
func (l *Loop) noteTurn(took time.Duration) {
	s := &l.standstill
	if s.from == 0 || took < s.from {
		return
	}
	s.ended, s.took = l.now, took
	for _, t := range l.table.list {
		t.awaited += instant(took)
		if t.ice.lastCheck != 0 {
			t.ice.lastCheck += instant(took)
		}
		for _, tu := range t.ice.tuples {
			tu.postpone(instant(took))
		}
	}
	for _, peer := range l.peers.all {
		peer.since += instant(took)
	}
}

// backlogged reports whether packets of a standstill may still come.
func (l *Loop) backlogged() bool {
	ended := l.standstill.ended
	return ended != 0 && l.now-ended < instant(backlogFor)
}

// oldest is the largest age that a packet may have that is read now.
func (l *Loop) oldest() time.Duration {
	if l.backlogged() {
		return l.standstill.took + believedAge
	}
	return believedAge
}
