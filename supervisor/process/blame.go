package process

import (
	"maps"
	"math"
	"time"
)

const (
	// blameHalfLife is how fast a blame is forgotten.
	blameHalfLife = 10 * time.Minute
	// blameLimit is how often a router may be in hand at a crash: then it is poison. It is
	// below maxBlamed, which would give all other routers up with it.
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

// blame notes what the worker had in hand, whose code crashed it or keeps it from turning,
// and reports whether there was anything. Poison is condemned, and the next process leaves
// it out.
func (k *keeper) blame(cause string) bool {
	mark := k.state.inHand()
	if mark == 0 {
		return false
	}
	if k.blames.note(mark, time.Now()) {
		k.skip = append(k.skip, mark)
		k.state.exclude(mark)
		if k.pool.cfg.Condemn != nil {
			k.pool.cfg.Condemn(Verdict{Slot: k.slot, Epoch: k.snapshot().Epoch, Mark: mark, Cause: cause})
		}
	}
	return true
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
