package load

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/dspeak/sfu/internal/errs"
)

// maxRounds bounds the histograms, of which each round has its own.
const maxRounds = 50

// maxCPUs is the size of the kernel's CPU mask.
const maxCPUs = 1024

// maxBooked bounds the memory that says which packets came, a bit for each.
const maxBooked = 1 << 34

// NoCPU is the value of Config.CPU that pins to no CPU.
const NoCPU = -1

// Config says what load is made. The zero value is not valid.
type Config struct {
	// URL is the signaling URL without a query, for example ws://localhost:8425/socket.
	URL string
	// Channels is the number of voice channels, 1 to 10,000.
	Channels int
	// Speakers and Listeners are counts in each channel. A listener hears every
	// speaker of its channel.
	Speakers  int
	Listeners int
	// SpeakersListen makes the speakers of a channel hear each other, too.
	SpeakersListen bool
	// Sizes is SizesConstant or SizesOpus; empty: SizesConstant.
	Sizes string
	// Payload is the size of an RTP payload in bytes, 1 to 1,100, with SizesConstant.
	Payload int
	// DTX lets the speakers pause as in a conversation; in a pause each sends a
	// comfort-noise packet every 400 ms.
	DTX bool
	// PacketTime is the time between two packets of one speaker.
	PacketTime time.Duration
	// Phases is how the speakers' times lie in PacketTime: PhasesUniform,
	// PhasesAligned or PhasesRandom; empty: PhasesUniform.
	Phases string
	// Warmup is the time of sending before counting starts.
	Warmup time.Duration
	// Duration is the time of counted sending, in Rounds equal parts.
	Duration time.Duration
	// Rounds is how many windows are measured one by one, 1 to 50; 0: 5 with Floor, else 1.
	Rounds int
	// Floor measures a bare sending loop, too: after each window of the worker one
	// of the same length with the same packets, on the CPUs of the only one of PIDs.
	Floor bool
	// Idle is the time of silence between joining and sending that is measured, about
	// 12 s longer in all; 0: none.
	Idle time.Duration
	// JoinTimeout bounds the time until every user is connected and hears everyone.
	JoinTimeout time.Duration
	// JoinRate bounds how many users begin to join in a second; 0 is no bound.
	JoinRate int
	// CPU is the only CPU that the generator uses, NoCPU: any.
	CPU int
	// PIDs are the worker processes whose CPU time is measured.
	PIDs []int
	// Control is the Unix socket of a worker whose answers to control calls are timed
	// during the load; empty: none.
	Control string
	// Prefix begins the names of channels and users, so that two runs do not meet.
	Prefix string
}

// faults collects what is wrong with a configuration.
type faults []error

func (f *faults) add(bad bool, format string, args ...any) {
	if bad {
		*f = append(*f, fmt.Errorf(format+": %w", append(args, errs.ErrInvalid)...))
	}
}

// oneOf says whether the value is empty or one of the names.
func (f *faults) oneOf(field, value string, names ...string) {
	f.add(value != "" && !slices.Contains(names, value), "%s %q, want one of %q", field, value, names)
}

// Validate reports all faults of the configuration together.
func (c Config) Validate() error {
	var f faults
	u, err := url.Parse(c.URL)
	f.add(err != nil || (u.Scheme != "ws" && u.Scheme != "wss") || u.Host == "", "url %q, want ws://host:port/path", c.URL)
	f.add(c.JoinTimeout <= 0, "join timeout %s must be positive", c.JoinTimeout)
	f.add(c.JoinRate < 0, "join rate %d must not be negative", c.JoinRate)
	f.add(c.CPU < NoCPU || c.CPU >= maxCPUs, "cpu %d, want 0 to %d", c.CPU, maxCPUs-1)
	c.validateLoad(&f)
	c.validateWindows(&f)
	return errors.Join(f...)
}

// validateLoad looks at who sends what.
func (c Config) validateLoad(f *faults) {
	f.add(c.Channels < 1 || c.Channels > 10_000, "channels %d, want 1 to 10000", c.Channels)
	f.add(c.Speakers < 0 || c.Listeners < 0, "speakers %d and listeners %d must not be negative", c.Speakers, c.Listeners)
	f.add(c.Users() < 1 || c.Users() > 20_000, "%d users, want 1 to 20000", c.Users())
	f.add(c.Payload < 1 || c.Payload > 1100, "payload %d bytes, want 1 to 1100", c.Payload)
	f.oneOf("sizes", c.Sizes, SizesConstant, SizesOpus)
	f.oneOf("phases", c.Phases, PhasesUniform, PhasesAligned, PhasesRandom)
}

// validateWindows looks at when it is measured, and what that needs.
func (c Config) validateWindows(f *faults) {
	f.add(c.Duration <= 0 || c.Duration > time.Hour, "duration %s, want up to an hour", c.Duration)
	f.add(c.Warmup < 0 || c.Warmup > time.Hour, "warm-up %s, want up to an hour", c.Warmup)
	f.add(c.Idle < 0 || c.Idle > time.Hour, "idle time %s, want up to an hour", c.Idle)
	f.add(c.Rounds < 0 || c.Rounds > maxRounds, "rounds %d, want 1 to %d", c.Rounds, maxRounds)
	f.add(c.Floor && len(c.PIDs) != 1, "%d pids, the floor needs exactly one", len(c.PIDs))
	f.add(c.Floor && c.Pairs() == 0, "the floor needs a speaker who is heard")
	if c.PacketTime < 2500*time.Microsecond || c.PacketTime > 120*time.Millisecond {
		f.add(true, "packet time %s, want 2.5ms to 120ms", c.PacketTime)
		return
	}
	f.add(uint64(c.Pairs())*uint64(c.packets()) > maxBooked, "%d pairs of %d packets each are too many to book", c.Pairs(), c.packets())
}

// Users is the number of users in all channels.
func (c Config) Users() int { return c.Channels * (c.Speakers + c.Listeners) }

// Pairs is the number of (speaker, hearing user) pairs in all channels.
func (c Config) Pairs() int {
	pairs := c.Speakers * c.Listeners
	if c.SpeakersListen {
		pairs += c.Speakers * (c.Speakers - 1)
	}
	return c.Channels * pairs
}

// hearing is the number of users who hear somebody, in each channel.
func (c Config) hearing() int {
	switch {
	case c.Speakers == 0:
		return 0
	case c.SpeakersListen && c.Speakers > 1:
		return c.Speakers + c.Listeners
	}
	return c.Listeners
}

// hearers is the number of users who hear a speaker.
func (c Config) hearers() int {
	if c.SpeakersListen {
		return c.Listeners + c.Speakers - 1
	}
	return c.Listeners
}

// rounds is the number of windows.
func (c Config) rounds() int {
	switch {
	case c.Rounds > 0:
		return c.Rounds
	case c.Floor:
		return 5
	}
	return 1
}

// windowPackets is the number of a speaker's packet times in a window.
func (c Config) windowPackets() int {
	return max(1, int(c.Duration/c.PacketTime)/c.rounds())
}

// packets is the number of a speaker's packet times in all windows.
func (c Config) packets() int { return c.rounds() * c.windowPackets() }

// warmupPackets is the number of packet times before the counted ones.
func (c Config) warmupPackets() int { return int(c.Warmup / c.PacketTime) }
