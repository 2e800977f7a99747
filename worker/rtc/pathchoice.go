package rtc

import "time"

// Which of a transport's validated paths packets go to. A valid check makes a path
// eligible, and nothing else does. Among eligible paths the client's own packets say
// which one it uses: a handshake's, and then RTP and RTCP that authenticate and are newer
// than all before. Nominations decide only while no path was heard from, for two reasons.
// A client whose UDP gets out but not in nominates UDP paths that it never hears an answer
// on. And a check that was recorded and is sent again from elsewhere is valid, too; it
// must not draw media away from the client. A path that falls silent gives way.
const (
	// shortSilence is after how long without a check or a packet a path gives way to one
	// whose checks began later: the client has moved. Clients check every 2.5 s (Chromium)
	// to 6 s (Firefox, whose reports come in between).
	shortSilence = 4 * time.Second
	// longSilence is the same for a path that was checked all the while: the client knew
	// both and preferred the one that it sent from. It is longer than any client's interval
	// between checks.
	longSilence = 9 * time.Second
	// settleFor is how long the client's packets do not move the choice again once they
	// have moved it: RTCP that was overtaken on its way must not move it back.
	settleFor = 250 * time.Millisecond
	// greetedFor is how long a datagram of a handshake speaks for its path.
	greetedFor = 5 * time.Second
	// stayFor is how long a path that a handshake goes on over is kept when datagrams of
	// the handshake come over another: they are not authenticated yet.
	stayFor = time.Second
)

// lastSign is when the client last showed that the path works from it to us.
func (tu *tuple) lastSign() instant { return max(tu.checked, tu.heard) }

// noteCheck notes a valid check.
func (tu *tuple) noteCheck(now instant, nominated bool) {
	if tu.checked == 0 || now-tu.checked >= instant(longSilence) {
		tu.since = now
	}
	tu.checked = now
	if nominated {
		tu.nominated = now
	}
}

// postpone moves all that was noted of a path to a later time: silence while nobody
// listened is none.
func (tu *tuple) postpone(by instant) {
	for _, at := range []*instant{&tu.since, &tu.checked, &tu.nominated, &tu.greeted, &tu.heard} {
		if *at != 0 {
			*at += by
		}
	}
}

// preferredTo reports whether the client rather uses tu than the selected path.
func (tu *tuple) preferredTo(selected *tuple, now instant) bool {
	sign := selected.lastSign()
	silence := instant(longSilence)
	if tu.since > sign {
		silence = instant(shortSilence)
	}
	switch {
	case now-sign >= silence:
		return tu.lastSign() > sign
	case tu.heard != selected.heard:
		return tu.heard > selected.heard
	case tu.nominated == 0 || selected.nominated == 0:
		return tu.nominated > selected.nominated
	case (tu.peer == nil) != (selected.peer == nil):
		return tu.peer == nil // both are nominated (RFC 5245 called it aggressive): UDP goes before TCP
	default:
		return tu.nominated > selected.nominated
	}
}

// mattersLess reports whether tu is forgotten before other when room is needed: silent
// paths first, then those that the client never used, the oldest of each kind first.
func (tu *tuple) mattersLess(other *tuple, now instant) bool {
	a, b := tu.rank(now), other.rank(now)
	return a < b || a == b && tu.lastSign() < other.lastSign()
}

func (tu *tuple) rank(now instant) int {
	switch {
	case now-tu.lastSign() >= instant(longSilence):
		return 0
	case tu.heard == 0:
		return 1
	default:
		return 2
	}
}

// heard notes a packet that authenticated and is newer than all before of its source.
func (l *Loop) heard(tu *tuple) {
	ice := &tu.transport.ice
	ice.spoke = true
	if tu != ice.selected {
		if ice.followed != 0 && l.now-ice.followed < instant(settleFor) {
			return
		}
		tu.heard = l.now
		ice.followed = l.now
		l.choose(tu)
		return
	}
	tu.heard = l.now
}

// greeted notes a datagram of a handshake that is not done. The path that the handshake
// goes on over is kept while datagrams come over it.
func (l *Loop) greeted(tu *tuple) {
	tu.greeted = l.now
	ice := &tu.transport.ice
	if s := ice.selected; s == tu || s == nil || s.heard == 0 || l.now-s.heard >= instant(stayFor) {
		tu.heard = l.now
		l.choose(tu)
	}
}

// greetedLately reports whether a datagram of a handshake speaks for the path.
func (tu *tuple) greetedLately(now instant) bool {
	return tu.greeted != 0 && now-tu.greeted < instant(greetedFor)
}

// choose makes tu the path that packets go to.
func (l *Loop) choose(tu *tuple) {
	t := tu.transport
	if t.ice.selected == tu {
		return
	}
	t.ice.selected = tu
	t.recordPaths()
	l.startClientHandshake(t)
}

// leaveSilentPath gives up the selected path when it fell silent and another did not.
func (l *Loop) leaveSilentPath(t *transport) {
	ice := &t.ice
	if ice.selected == nil || len(ice.tuples) < 2 || l.now-ice.selected.lastSign() < instant(shortSilence) {
		return
	}
	best := ice.selected
	for _, tu := range ice.tuples {
		if l.now-tu.lastSign() < instant(longSilence) && tu != best && tu.preferredTo(best, l.now) {
			best = tu
		}
	}
	l.choose(best)
}

// checkSelected picks another path when the selected one is gone. Without any the
// transport is disconnected until the next valid check.
func (l *Loop) checkSelected(t *transport) {
	ice := &t.ice
	if ice.selected != nil {
		return
	}
	for _, tu := range ice.tuples {
		if ice.selected == nil || tu.preferredTo(ice.selected, l.now) {
			ice.selected = tu
		}
	}
	t.recordPaths()
	if ice.selected == nil && ice.state == IceConnected {
		ice.state = IceDisconnected
		l.emitState(t)
	}
}
