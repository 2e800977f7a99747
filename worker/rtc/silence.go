package rtc

import (
	"time"

	"github.com/dspeak/sfu/worker/netio"
)

// silentAfter is when a loop whose clients send nothing but checks and reports begins to
// rest: it then leaves those lying for restFor. Everything else ends a rest at once.
const silentAfter = time.Second

// restFor is how long they lie at most: one wake-up serves all that come in that time. It
// costs some 0.03 ms, far more than a check does.
const restFor = 50 * time.Millisecond

// addAsides adds the second sockets.
func (l *Loop) addAsides(s Sockets) error {
	l.rests = len(s.Asides) == len(l.udp)
	for i, aside := range s.Asides {
		port := l.udp[i]
		port.aside = aside
		var err error
		if port.place, err = l.poller.AddAside(port.aside); err != nil {
			return err
		}
	}
	return nil
}

// wait waits for something to do. In silence it leaves checks and reports lying until the
// rest is over, and reads until there are no more before the next.
func (l *Loop) wait() (ready netio.Ready, err error) {
	if !l.silent() {
		return l.poller.Wait(l.waitTime())
	}
	if l.drained {
		l.drained = false // or what ends each rest before its time would keep them lying
		if ready, err = l.poller.Rest(restFor); err != nil || ready != (netio.Ready{}) {
			return ready, err
		}
	}
	ready, err = l.poller.Wait(0)
	l.drained = ready == netio.Ready{}
	return ready, err
}

// silent says whether checks and reports can wait for a moment: nothing else comes in,
// and nothing is to be sent.
func (l *Loop) silent() bool {
	if !l.rests || l.now-l.stirred < instant(silentAfter) || l.out.due != 0 || l.timers.moreCalls {
		return false
	}
	for _, port := range l.udp {
		if port.full {
			return false
		}
	}
	return true
}

// stir notes that somebody cares about delay: media, a handshake or a new transport.
func (l *Loop) stir() { l.stirred = l.now }
