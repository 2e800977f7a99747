// Package placement owns the choice of a worker for a new channel, as a pure
// function of the workers' last figures.
//
// It has no goroutine, no clock and no state, and imports only identifiers.
package placement

import "github.com/dspeak/sfu/internal/ident"

// Load is what is known of one worker.
type Load struct {
	Slot ident.Slot
	// Serving is false for a worker that starts, drains or hangs.
	Serving bool
	// CPUShare is the measured share of a CPU, 0 and up.
	CPUShare float64
	// Consumers is the number that the worker carries.
	Consumers uint32
	// Channels is the number of channels that were given to the worker. A channel
	// counts from the moment of its placement, before any figure shows it.
	Channels int
}

const (
	// consumersPerCPU is about how many consumers of people who talk in turn a CPU
	// carries: it puts the predicted load on the scale of the measured one.
	consumersPerCPU = 4000.0
	// channelLoad is what a channel is expected to become, in CPU share.
	channelLoad = 0.02
)

// score is the load of a worker; smaller is better. A measured share lags a
// second behind, so what was placed counts too.
func (l Load) score() float64 {
	return l.CPUShare + float64(l.Consumers)/consumersPerCPU + channelLoad*float64(l.Channels)
}

// Choose returns the least loaded worker that serves, the lowest slot of equals;
// ok is false when none serves.
func Choose(loads []Load) (slot ident.Slot, ok bool) {
	best := 0.0
	for _, l := range loads {
		if !l.Serving {
			continue
		}
		s := l.score()
		if !ok || s < best || (s == best && l.Slot < slot) {
			slot, best, ok = l.Slot, s, true
		}
	}
	return slot, ok
}
