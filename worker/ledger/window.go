package ledger

import "sync/atomic"

// A window is a ring of words, after RFC 6479.
const (
	windowWords = 4
	wordBits    = 64
	// WindowSize is how far behind the highest a number may come. RFC 3711 section
	// 3.3.2 asks for at least 64. Two words less than the ring has: the highest one is
	// not full, and the next one is zeroed while the highest is still the old.
	WindowSize = (windowWords - 2) * wordBits
)

// Window says which of a stream's extended numbers came already. The zero value has
// seen none. It belongs to one goroutine; a kill between any two stores of Mark
// leaves a window in which all numbers marked before are marked, and at most the
// present one is not.
type Window struct {
	next atomic.Uint64 // the highest number plus one; 0: nothing came yet
	bits [windowWords]uint64
}

// Started says whether anything came.
func (w *Window) Started() bool { return w.next.Load() != 0 }

// Highest is the highest number that came; 0 before the first.
func (w *Window) Highest() uint64 { return max(w.next.Load(), 1) - 1 }

// Next is the highest number that came, plus one; 0 before the first.
func (w *Window) Next() uint64 { return w.next.Load() }

// SeenBelow makes an empty window, which no successor knows yet, one in which all numbers
// below next came.
func (w *Window) SeenBelow(next uint64) {
	if next == 0 {
		return
	}
	for i := range w.bits {
		w.bits[i] = ^uint64(0)
	}
	highest := next - 1
	w.bits[highest/wordBits%windowWords] >>= wordBits - 1 - highest%wordBits
	w.next.Store(next)
}

// Fresh says whether a number neither came nor is too old to know.
func (w *Window) Fresh(n uint64) bool {
	next := w.next.Load()
	if n >= next {
		return true
	}
	return next-1-n < WindowSize && w.bits[n/wordBits%windowWords]>>(n%wordBits)&1 == 0
}

// Mark notes a number that is Fresh, before it has any effect.
func (w *Window) Mark(n uint64) {
	bit := uint64(1) << (n % wordBits)
	word := &w.bits[n/wordBits%windowWords]
	next := w.next.Load()
	if n < next {
		*word |= bit
		return
	}
	if next == 0 {
		w.bits = [windowWords]uint64{}
	} else if was, is := (next-1)/wordBits, n/wordBits; is > was {
		w.advance(was, is)
	}
	*word |= bit        // above the highest it means nothing yet
	w.next.Store(n + 1) // nor does the compiler move a store across this one
}

// advance makes room word by word: the word that comes next is outside the window
// of the highest number before it.
func (w *Window) advance(was, is uint64) {
	at := was + 1
	if is-was > windowWords {
		at = is - windowWords + 1
	}
	for ; at <= is; at++ {
		w.bits[at%windowWords] = 0
		w.next.Store(at*wordBits + 1)
	}
}
