package rtp

import "time"

const (
	// nackWindow is how many missing packets are remembered, and how far back they
	// may lie: later, audio has been played without them.
	nackWindow = 32
	nackReach  = 64
	nackTries  = 3
	// nackDelay lets reordered packets arrive before they are asked for.
	nackDelay  = 10 * time.Millisecond
	nackMinRTT = 20 * time.Millisecond
)

// NackGenerator remembers which packets of a stream are missing and when to ask
// for them (RFC 4585 section 6.2.1). The zero value is ready. Times are on any
// steady clock. It belongs to one goroutine.
type NackGenerator struct {
	started bool
	highest uint16
	missing []missing // numbers ascending; room for nackWindow from the first loss on
}

type missing struct {
	seq   uint16
	tries uint8
	next  time.Duration
}

// Seen books an arrived packet and notes the gap that it opens.
func (g *NackGenerator) Seen(seq uint16, now time.Duration) {
	if !g.started {
		g.started, g.highest = true, seq
		return
	}
	ahead := int16(seq - g.highest)
	if ahead <= 0 {
		g.remove(seq)
		return
	}
	first := g.highest + 1
	if ahead > nackWindow { // a long pause: what is older is of no use
		first = seq - nackWindow
	}
	for s := first; s != seq; s++ {
		g.add(s, now+nackDelay)
	}
	g.highest = seq
}

func (g *NackGenerator) add(seq uint16, at time.Duration) {
	if g.missing == nil {
		g.missing = make([]missing, 0, nackWindow)
	}
	if n := len(g.missing); n == nackWindow {
		copy(g.missing, g.missing[1:])
		g.missing = g.missing[:n-1]
	}
	g.missing = append(g.missing, missing{seq: seq, next: at})
}

func (g *NackGenerator) remove(seq uint16) {
	for i := range g.missing {
		if g.missing[i].seq == seq {
			g.missing = append(g.missing[:i], g.missing[i+1:]...)
			return
		}
	}
}

// Pending says whether any packet is missing.
func (g *NackGenerator) Pending() bool { return len(g.missing) > 0 }

// Due appends the sequence numbers that are to be asked for now, ascending, at most
// 32. A packet is asked for at most three times, a round trip apart, and forgotten
// when it is too old.
func (g *NackGenerator) Due(dst []uint16, now, rtt time.Duration) []uint16 {
	kept := g.missing[:0]
	for _, m := range g.missing {
		if m.tries >= nackTries && now >= m.next || g.highest-m.seq > nackReach {
			continue
		}
		if m.tries < nackTries && now >= m.next {
			dst = append(dst, m.seq)
			m.tries++
			m.next = now + max(rtt, nackMinRTT)
		}
		kept = append(kept, m)
	}
	g.missing = kept
	return dst
}
