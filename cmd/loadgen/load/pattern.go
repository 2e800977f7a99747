package load

import (
	_ "embed" // opusSizes
	"math/rand/v2"
	"time"
)

// Sizes of payloads, for Config.
const (
	// SizesConstant gives each packet Config.Payload bytes.
	SizesConstant = "constant"
	// SizesOpus gives the packets the sizes of a recording of variable bitrate.
	SizesOpus = "opus"
)

const (
	// comfortSize is the payload of a comfort-noise packet in bytes, comfortEvery
	// the time between two in a pause, as the Opus encoder's DTX does it.
	comfortSize  = 3
	comfortEvery = 400 * time.Millisecond
	// talkMean and pauseMean are the mean times of artificial conversational
	// speech (ITU-T P.59 table 1).
	talkMean  = 1004 * time.Millisecond
	pauseMean = 1587 * time.Millisecond
	// seed makes what is random the same in every run and in both processes.
	seed = 0x64737065616b
)

// opusSizes are the sizes of the packets of 320 s of speech in Opus at 32 kbit/s
// and 20 ms, one byte each: mean 79, from 34 to 131. opus_sizes.sh makes the file.
//
//go:embed opus_sizes.bin
var opusSizes string

// pattern yields the payload sizes of one speaker, slot by slot.
type pattern struct {
	// constant is the size of each payload in bytes; 0: take those of the recording.
	constant int
	// at is the place in the recording.
	at int
	// random is nil without DTX.
	random     *rand.Rand
	packetTime time.Duration
	// talking says which state the speaker is in, left for how many slots more,
	// quiet for how many slots it has been silent.
	talking     bool
	left, quiet int
}

// newPattern returns the pattern of a speaker by its number.
func newPattern(cfg Config, speaker int) pattern {
	p := pattern{packetTime: cfg.PacketTime}
	random := rand.New(rand.NewPCG(seed, uint64(speaker))) //nolint:gosec // repeatable, not secret
	if cfg.Sizes == SizesOpus {
		p.at = random.IntN(len(opusSizes))
	} else {
		p.constant = cfg.Payload
	}
	if cfg.DTX {
		p.random = random
		p.talking = random.Int64N(int64(talkMean+pauseMean)) < int64(talkMean)
		p.left = p.length()
	}
	return p
}

// next returns the size of the next slot's payload in bytes; 0: there is no packet.
func (p *pattern) next() int {
	if p.random == nil {
		return p.speech()
	}
	for p.left == 0 {
		p.talking, p.quiet = !p.talking, 0
		p.left = p.length()
	}
	p.left--
	if p.talking {
		return p.speech()
	}
	p.quiet++
	if (p.quiet-1)%max(1, int(comfortEvery/p.packetTime)) == 0 {
		return comfortSize
	}
	return 0
}

// speech is the size of the next payload of speech.
func (p *pattern) speech() int {
	if p.constant > 0 {
		return p.constant
	}
	size := int(opusSizes[p.at])
	p.at = (p.at + 1) % len(opusSizes)
	return size
}

// length draws how many slots the state lasts: exponential, at least one.
func (p *pattern) length() int {
	mean := pauseMean
	if p.talking {
		mean = talkMean
	}
	return 1 + int(p.random.ExpFloat64()*float64(mean)/float64(p.packetTime))
}
