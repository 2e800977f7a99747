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
	// maxBlamed bounds those that die young, or before they serve, of a router that they
	// had in hand: the state is good without it. It leaves room for two such routers.
	maxBlamed = 8
)

// fate is what a process ended of.
type fate int

const (
	byOthers fate = iota // a signal of somebody else
	ofRouter             // a router that it had in hand
	ofItself             // nobody knows
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
	soon     int // processes in a row that served only shortly
	blamed   int // processes since one that served long that ended soon of a router
	// excluded are the marks of the routers that the next processes leave out.
	excluded map[uint64]struct{}
}

// exclude books a router that is left out from now on. Without it the state is another
// one, which has not crashed anybody yet.
func (s *slotState) exclude(mark uint64) {
	if _, again := s.excluded[mark]; again {
		return
	}
	if s.excluded == nil {
		s.excluded = map[uint64]struct{}{}
	}
	s.excluded[mark] = struct{}{}
	s.blamed = 0
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

// inHand is the mark of the router that the last process had in hand; 0: none.
func (s *slotState) inHand() uint64 {
	if s.ledger == nil {
		return 0
	}
	view, err := ledgerfile.OpenHeader(s.ledger)
	if err != nil {
		return 0 // there is nothing to go on with either
	}
	defer func() { _ = view.Close() }() // it is mapped
	return view.InHand()
}

// emptyHand is called before a process gets the state: what the former one had in hand is
// none of its doing.
func (s *slotState) emptyHand() {
	view, err := ledgerfile.OpenHeader(s.ledger)
	if err != nil {
		return // of an empty ledger
	}
	defer func() { _ = view.Close() }() // it is mapped
	view.SetInHand(0)
}

// serves books a process that serves and returns how long nobody did.
func (s *slotState) serves(now time.Time) time.Duration {
	s.attempts, s.served = 0, now
	return now.Sub(s.lost)
}

// died books the end of a process that served.
func (s *slotState) died(now time.Time, cause string, f fate) {
	s.cause, s.lost = cause, now
	if s.ledger == nil {
		return
	}
	young := s.resuming && now.Sub(s.served) < youngAge
	switch {
	case young && f == ofRouter:
		s.blamed++
	case young && f == ofItself:
		s.soon++
	case f == byOthers:
		s.soon = 0
	default:
		s.soon, s.blamed = 0, 0
	}
	s.resuming = true
	if s.soon >= maxSoon || s.blamed >= maxBlamed {
		s.drop()
	}
}

// failed books a process that did not come to serve, and reports whether that was the
// last attempt. final: it says that another would fail, too.
func (s *slotState) failed(final bool, f fate) bool {
	if f == ofRouter {
		s.blamed++
	} else {
		s.attempts++
	}
	return final || s.attempts >= maxAttempts || s.blamed >= maxBlamed
}

// drop lets go of the state: its memory ends with the last process that has it.
func (s *slotState) drop() {
	if s.ledger != nil {
		_ = s.ledger.Close() // nothing was written through it
	}
	*s = slotState{lost: s.lost}
}
