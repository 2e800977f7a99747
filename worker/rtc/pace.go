package rtc

import "time"

// pacer decides how long packets wait for others to the same destination: not at
// all while the loop has time to spare, and longer the busier it is, so that the
// cost of a packet falls as load rises.
type pacer struct {
	maxWait time.Duration
	padding Padding
	busy    float64 // smoothed share of time in which the loop did not wait, 0 to 1
	window  time.Duration
	waited  time.Duration
}

const (
	// paceWindow is the time over which one sample of the load is taken.
	paceWindow = 50 * time.Millisecond
	// Below paceIdle nothing waits; from paceFull up, the longest wait applies. Waiting
	// makes the loop less busy: between the two, load finds its own wait. The README's
	// table shows what these values give.
	paceIdle = 0.15
	paceFull = 0.40
	// From pacePad up, where packets wait for others, payloads are padded to a multiple of
	// padQuantum: the sizes of Opus differ from packet to packet, and only packets of one
	// size share a send. It costs 11 to 16 bytes a packet and saves a third of the CPU at
	// 200,000 packets a second (README, Measurements).
	pacePad    = 0.25
	padQuantum = 32
	// paceGain is the weight of a new sample.
	paceGain = 0.3
)

// turn records one turn of the loop: its whole length, and how much of it the loop
// spent waiting.
func (p *pacer) turn(length, waited time.Duration) {
	p.window += length
	p.waited += min(waited, length)
	if p.window < paceWindow {
		return
	}
	sample := 1 - float64(p.waited)/float64(p.window)
	p.busy += paceGain * (sample - p.busy)
	p.window, p.waited = 0, 0
}

// behind says that packets have grown old before they were read: the load has risen
// faster than the samples show.
func (p *pacer) behind() { p.busy = max(p.busy, paceFull) }

// wait is the time that a packet may wait now.
func (p *pacer) wait() time.Duration { return waitFor(p.busy, p.maxWait) }

// padTo is what payloads are padded to a multiple of now; 0: nothing.
func (p *pacer) padTo() int {
	if p.padding == PaddingAlways || p.padding == PaddingAuto && p.maxWait > 0 && p.busy >= pacePad {
		return padQuantum
	}
	return 0
}

// waitFor grows linearly from 0 at paceIdle to longest at paceFull.
func waitFor(busy float64, longest time.Duration) time.Duration {
	if longest <= 0 || busy <= paceIdle {
		return 0
	}
	if busy >= paceFull {
		return longest
	}
	return time.Duration(float64(longest) * (busy - paceIdle) / (paceFull - paceIdle))
}
