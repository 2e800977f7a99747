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
	// JoinTimeout bounds the time until every user is connected and hears everyone.
	JoinTimeout time.Duration
	// JoinRate bounds how many users begin to join in a second; 0 is no bound.
	JoinRate int
	// PIDs are the worker processes whose CPU time is measured.
	PIDs []int
	// Prefix begins the names of channels and users, so that two runs do not meet.
	Prefix string
}

// Validate reports all faults of the configuration together.
func (c Config) Validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format+": %w", append(args, errs.ErrInvalid)...))
		}
	}
	u, err := url.Parse(c.URL)
	fault(err != nil || (u.Scheme != "ws" && u.Scheme != "wss") || u.Host == "", "url %q, want ws://host:port/path", c.URL)
	fault(c.Channels < 1 || c.Channels > 10_000, "channels %d, want 1 to 10000", c.Channels)
	fault(c.Speakers < 0 || c.Listeners < 0, "speakers %d and listeners %d must not be negative", c.Speakers, c.Listeners)
	fault(c.Users() < 1 || c.Users() > 20_000, "%d users, want 1 to 20000", c.Users())
	fault(c.Payload < 1 || c.Payload > 1100, "payload %d bytes, want 1 to 1100", c.Payload)
	fault(!slices.Contains([]string{"", SizesConstant, SizesOpus}, c.Sizes), "sizes %q, want %s or %s", c.Sizes, SizesConstant, SizesOpus)
	fault(!slices.Contains([]string{"", PhasesUniform, PhasesAligned, PhasesRandom}, c.Phases),
		"phases %q, want %s, %s or %s", c.Phases, PhasesUniform, PhasesAligned, PhasesRandom)
	fault(c.PacketTime < 2500*time.Microsecond || c.PacketTime > 120*time.Millisecond, "packet time %s, want 2.5ms to 120ms", c.PacketTime)
	fault(c.Duration <= 0 || c.Duration > time.Hour, "duration %s, want up to an hour", c.Duration)
	fault(c.Rounds < 0 || c.Rounds > maxRounds, "rounds %d, want 1 to %d", c.Rounds, maxRounds)
	fault(c.Floor && len(c.PIDs) != 1, "%d pids, the floor needs exactly one", len(c.PIDs))
	fault(c.Floor && c.Pairs() == 0, "the floor needs a speaker who is heard")
	fault(c.Warmup < 0 || c.Warmup > time.Hour, "warm-up %s, want up to an hour", c.Warmup)
	fault(c.JoinTimeout <= 0, "join timeout %s must be positive", c.JoinTimeout)
	fault(c.JoinRate < 0, "join rate %d must not be negative", c.JoinRate)
	return errors.Join(faults...)
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
