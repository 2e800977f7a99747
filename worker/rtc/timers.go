package rtc

import (
	"log/slog"
	"time"
)

const (
	// sweepTick is the time between two slices of the sweep, sweepPeriod that in
	// which every transport is visited once.
	sweepTick   = 20 * time.Millisecond
	sweepPeriod = 100 * time.Millisecond
	sweepSlices = int(sweepPeriod / sweepTick)
	// sweepSlack is how much later a slice may come: where packets come every 20 ms, it needs
	// no wake-up of its own then (4 % of the CPU with one speaker and 200 listeners).
	sweepSlack = 20 * time.Millisecond
	// dropLogEvery is how often drops are logged, when there were any.
	dropLogEvery = time.Second
)

// timers is the loop's only clockwork: transports are visited in slices, so that
// neither a timer per transport nor a pass over all of them is needed.
type timers struct {
	tick      instant // when the next slice is due; 0: nothing to sweep
	cursor    int     // next transport of the present pass
	logged    instant
	moreCalls bool // the mailbox was not emptied
}

// next is when the next slice must come; 0: never. It may come before, once it is due.
func (s *timers) next(transports int) instant {
	if transports == 0 {
		return 0
	}
	return s.tick + instant(sweepSlack)
}

// runTimers does the slice that is due.
func (l *Loop) runTimers() {
	if l.now-l.timers.logged >= instant(dropLogEvery) {
		l.timers.logged = l.now
		l.logDrops()
		l.logSocketFaults()
		l.sweepPeers()
		for _, port := range l.udp {
			port.urgent.release()
			port.media.release()
		}
	}
	if l.now < l.timers.tick {
		return
	}
	l.timers.tick = l.now + instant(sweepTick)
	n := (len(l.table.list) + sweepSlices - 1) / sweepSlices
	for range n {
		if l.timers.cursor >= len(l.table.list) {
			l.timers.cursor = 0
		}
		if len(l.table.list) == 0 {
			return
		}
		t := l.table.list[l.timers.cursor]
		l.timers.cursor++
		l.sweep(t)
	}
}

// sweep visits one transport.
func (l *Loop) sweep(t *transport) {
	l.take(t.router)
	if reason := l.sweepICE(t); reason != "" {
		l.giveUp(t, reason)
		return
	}
	l.sweepDTLS(t)
	if t.srtp.out != nil {
		l.sweepRTCP(t)
		l.sweepIntroduction(t)
	}
}

// logDrops logs what was dropped since the last line, by cause.
func (l *Loop) logDrops() {
	now, was := l.count, l.logged
	if now.dropped == was.dropped && now.late == was.late && now.unknownSource == was.unknownSource && now.malformed == was.malformed &&
		now.unknownUfrag == was.unknownUfrag && now.badIntegrity == was.badIntegrity && now.eventsLost == was.eventsLost {
		return
	}
	l.logged = now
	l.log.Debug("packets dropped",
		slog.Uint64("send_queue_full", now.dropped-was.dropped),
		slog.Uint64("too_late", now.late-was.late),
		slog.Uint64("unknown_source", now.unknownSource-was.unknownSource),
		slog.Uint64("malformed", now.malformed-was.malformed),
		slog.Uint64("unknown_user_fragment", now.unknownUfrag-was.unknownUfrag),
		slog.Uint64("bad_integrity", now.badIntegrity-was.badIntegrity),
		slog.Uint64("events_lost", now.eventsLost-was.eventsLost))
}
