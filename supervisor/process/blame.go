package process

import (
	"maps"
	"math"
	"time"

	"github.com/dspeak/sfu/internal/ledgerfile"
)

const (
	// blameHalfLife is how fast a blame is forgotten.
	blameHalfLife = 10 * time.Minute
	// blameLimit is how often a router may be in hand at a crash: then it is poison. It is
	// below maxSoon, which would give all other routers up with it.
	blameLimit = 2.5
	// blameForgotten is a blame so old that it counts for nothing.
	blameForgotten = 0.25
)

// blames counts, for one slot, which routers its worker had in hand when it crashed or
// hung, by their marks. The zero value is ready. It belongs to the keeper's goroutine.
type blames struct {
	counts map[uint64]blame
}

type blame struct {
	count float64
	last  time.Time
}

// faded is what is left of a blame.
func (b blame) faded(now time.Time) float64 {
	return b.count * math.Exp2(-float64(now.Sub(b.last))/float64(blameHalfLife))
}

// note books a crash and says whether the router is poison, which begins anew then.
func (b *blames) note(mark uint64, now time.Time) bool {
	if b.counts == nil {
		b.counts = map[uint64]blame{}
	}
	maps.DeleteFunc(b.counts, func(_ uint64, old blame) bool { return old.faded(now) < blameForgotten })
	count := b.counts[mark].faded(now) + 1
	if count >= blameLimit {
		delete(b.counts, mark)
		return true
	}
	b.counts[mark] = blame{count, now}
	return false
}

// blame notes what the worker had in hand, whose code crashed it or keeps it from turning;
// poison is left out by the next one.
func (k *keeper) blame() {
	if k.state.ledger == nil {
		return
	}
	view, err := ledgerfile.OpenHeader(k.state.ledger)
	if err != nil {
		return // there is nothing to go on with either
	}
	defer func() { _ = view.Close() }() // it is mapped
	if mark := view.InHand(); mark != 0 && k.blames.note(mark, time.Now()) {
		k.skip = append(k.skip, mark)
	}
}

// awake ends the sleep of a reserve; any goroutine.
func (k *keeper) awake() {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.wake:
	default:
		close(k.wake)
	}
}

// isAwake says whether the slot is served, or is to be.
func (k *keeper) isAwake() bool {
	select {
	case <-k.wake:
		return true
	default:
		return false
	}
}
