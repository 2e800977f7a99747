// Package placement chooses the worker of a new channel, as a pure function of what
// is known of the workers.
//
// It has no goroutine, no clock and no state, and imports only identifiers.
package placement

import "github.com/dspeak/sfu/internal/ident"

const (
	// consumersPerCPU is about how many consumers of people who talk in turn a CPU
	// carries. All loads are compared in consumers.
	consumersPerCPU = 4000
	// channelConsumers is what a channel is expected to become at least: 2 % of a CPU.
	channelConsumers = 80
	// toleratedShare is the measured share of a CPU that says nothing: a process that
	// serves nobody needs some, and equal loads measure differently.
	toleratedShare = 0.1
)

// Load is what is known of one worker. The zero value but for Slot and Serving is a
// worker without channels that was not measured.
type Load struct {
	Slot ident.Slot
	// Serving reports whether the worker may get a channel.
	Serving bool
	// CPUShare is the measured share of a CPU, 0 and up.
	CPUShare float64
	// Channels is the number of channels on the worker, from the decision to place them.
	Channels int
	// Consumers is how many consumers those channels have beyond what every channel is
	// expected to have.
	Consumers int
	// Fresh is what those channels are expected to have that CPUShare does not contain
	// yet, in consumers.
	Fresh int
}

// Add counts a channel that has, or is expected to have, that many consumers. Fresh
// reports whether CPUShare was measured before the channel came.
func (l *Load) Add(consumers int, fresh bool) {
	consumers = max(consumers, channelConsumers)
	l.Channels++
	l.Consumers += consumers - channelConsumers
	if fresh {
		l.Fresh += consumers
	}
}

// score is the load in consumers. It is what the channels are expected to need, or
// what was measured with what came since, whichever is more. So a measurement counts
// only where it says more than the expectation, and the noise of small figures and of
// a burst's beginning decides nothing.
func (l *Load) score() int {
	measured := int(consumersPerCPU*(l.CPUShare-toleratedShare)) + l.Fresh
	return max(channelConsumers*l.Channels+l.Consumers, measured)
}

// less reports whether a is the better choice.
func less(a, b *Load) bool {
	switch x, y := a.score(), b.score(); {
	case x != y:
		return x < y
	case a.CPUShare < b.CPUShare || a.CPUShare > b.CPUShare:
		return a.CPUShare < b.CPUShare
	default:
		return a.Slot < b.Slot
	}
}

// Choose returns the least loaded worker that serves; of equals the one that measured
// less, then the lowest slot. Ok is false when none serves.
func Choose(loads []Load) (slot ident.Slot, ok bool) {
	var best *Load
	for i := range loads {
		if l := &loads[i]; l.Serving && (best == nil || less(l, best)) {
			best = l
		}
	}
	if best == nil {
		return 0, false
	}
	return best.Slot, true
}
