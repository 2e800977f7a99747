package load

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// Phases of the speakers, for Config.
const (
	// PhasesUniform spreads the speakers evenly over the packet time.
	PhasesUniform = "uniform"
	// PhasesAligned lets all speakers send at the same instant.
	PhasesAligned = "aligned"
	// PhasesRandom gives each speaker a random phase, the same in every run.
	PhasesRandom = "random"
)

// rhythm says when each speaker sends and how much. Two rhythms of one Config are
// the same, so the floor's process follows the pacer's without being told each
// packet. It belongs to one goroutine.
type rhythm struct {
	packetTime time.Duration
	// phases are the speakers' offsets within the packet time.
	phases []time.Duration
	// order lists the speakers by phase.
	order []int
	// sizes are the speakers' payload sizes.
	sizes []pattern
}

func newRhythm(cfg Config) *rhythm {
	speakers := cfg.Channels * cfg.Speakers
	r := &rhythm{packetTime: cfg.PacketTime, phases: phases(cfg, speakers)}
	for i := range speakers {
		r.order = append(r.order, i)
		r.sizes = append(r.sizes, newPattern(cfg, i))
	}
	slices.SortStableFunc(r.order, func(a, b int) int { return cmp.Compare(r.phases[a], r.phases[b]) })
	return r
}

// phases returns the offset of each speaker within the packet time.
func phases(cfg Config, speakers int) []time.Duration {
	all := make([]time.Duration, speakers)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // repeatable, not secret
	for i := range all {
		switch cfg.Phases {
		case PhasesAligned:
		case PhasesRandom:
			all[i] = time.Duration(random.Int64N(int64(cfg.PacketTime)))
		default:
			all[i] = cfg.PacketTime * time.Duration(i) / time.Duration(speakers)
		}
	}
	return all
}

// beat is one packet to be sent.
type beat struct {
	speaker int
	// slot counts packet times from the start of what is played.
	slot int
	// size is that of the payload in bytes.
	size int
	// due is when to send it, by CLOCK_MONOTONIC in nanoseconds.
	due int64
}

// play calls send for each packet of the next slots, by time. The first slot
// begins at start (CLOCK_MONOTONIC in nanoseconds); send waits until the packet
// is due. An error of send ends it.
func (r *rhythm) play(start int64, slots int, send func(beat) error) error {
	for slot := range slots {
		for _, i := range r.order {
			size := r.sizes[i].next()
			if size == 0 {
				continue
			}
			due := start + int64(slot)*int64(r.packetTime) + int64(r.phases[i])
			if err := send(beat{speaker: i, slot: slot, size: size, due: due}); err != nil {
				return err
			}
		}
	}
	return nil
}

// skip passes over the next slots.
func (r *rhythm) skip(slots int) {
	for i := range r.sizes {
		for range slots {
			r.sizes[i].next()
		}
	}
}

// windows tells counted packets from others by their slot, the number of packet
// times since the pacer's start. The pacer begins windows, the engine reads.
type windows struct {
	// slots is the length of each window.
	slots int
	first []atomic.Int64
	begun atomic.Int32
}

func newWindows(cfg Config) *windows {
	return &windows{slots: cfg.windowPackets(), first: make([]atomic.Int64, cfg.rounds())}
}

// begin says that the next window starts with the slot. Only the pacer calls it,
// at most once for each round.
func (w *windows) begin(slot int64) {
	round := w.begun.Load()
	w.first[round].Store(slot)
	w.begun.Store(round + 1)
}

// round is the number of the window that began last, from 0; -1: none has.
func (w *windows) round() int { return int(w.begun.Load()) - 1 }

// place returns the round that a slot belongs to and its index among the counted
// slots of all rounds. It is false for a slot that is not counted.
func (w *windows) place(slot int64) (round, index int, ok bool) {
	for round = w.round(); round >= 0; round-- {
		if offset := slot - w.first[round].Load(); offset >= 0 {
			return round, round*w.slots + int(offset), offset < int64(w.slots)
		}
	}
	return 0, 0, false
}
