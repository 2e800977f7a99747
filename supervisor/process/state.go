package process

import (
	"os"
	"time"

	"github.com/dspeak/sfu/internal/ledgerfile"
)

const (
	// maxAttempts bounds the processes that may fail to start on one ledger.
	maxAttempts = 5
	// A process that dies young and by itself may have died of the state that it went on
	// with: after maxSoon of them in a row the state is given up.
	maxSoon = 3
)

// slotState is what a slot keeps for the next process, and how often that was tried. It
// belongs to the keeper's goroutine.
type slotState struct {
	ledger   *os.File // nil: none
	resuming bool     // a process has served with it, and the next goes on
	cause    string   // why the last process ended
	lost     time.Time
	served   time.Time
	attempts int // processes that did not come to serve
	soon     int // processes that served only shortly
}

// held says whether there is state to go on with.
func (s *slotState) held() bool { return s.resuming }

// make begins with nothing.
func (s *slotState) make() error {
	s.drop()
	f, err := ledgerfile.Create(ledgerfile.Size)
	if err != nil {
		return err
	}
	s.ledger = f
	return nil
}

// serves books a process that serves and returns how long nobody did.
func (s *slotState) serves(now time.Time) time.Duration {
	s.attempts, s.served = 0, now
	return now.Sub(s.lost)
}

// died books the end of a process that served. killed: it did not end by itself.
func (s *slotState) died(now time.Time, cause string, killed bool) {
	s.cause, s.lost = cause, now
	if s.ledger == nil {
		return
	}
	switch {
	case killed:
		s.soon = 0
	case s.resuming && now.Sub(s.served) < youngAge:
		s.soon++
	default:
		s.soon = 0
	}
	s.resuming = true
	if s.soon >= maxSoon {
		s.drop()
	}
}

// failed books a process that did not come to serve, and says whether that was the
// last attempt. final: it says that another would fail, too.
func (s *slotState) failed(final bool) bool {
	s.attempts++
	return final || s.attempts >= maxAttempts
}

// drop lets go of the state: its memory ends with the last process that has it.
func (s *slotState) drop() {
	if s.ledger != nil {
		_ = s.ledger.Close() // nothing was written through it
	}
	*s = slotState{lost: s.lost}
}
