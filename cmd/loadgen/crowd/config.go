package crowd

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/dspeak/sfu/internal/errs"
)

// Config is what to measure. The zero value is not valid.
type Config struct {
	URL string
	// Users come at once, or Rate of them a second.
	Users, Rate int
	// Produce has every user connect a transport and produce.
	Produce bool
	// Speakers of the users produce; the others consume all of them.
	Speakers int
	// Hear is how many of the others have real media and must hear a speaker.
	Hear int
	// Unmute has all who produce produce anew, Reconnect has all sockets break and come
	// back, and Leave has all sockets close for so long, while the bystander is watched.
	Unmute, Reconnect bool
	Leave             time.Duration
	// Compress offers permessage-deflate, as browsers do.
	Compress bool
	// PerAddress is how many users share a loopback address.
	PerAddress int
	// Timeout bounds each phase.
	Timeout time.Duration
	// PID is the supervisor, 0 when its CPU is not measured.
	PID    int
	Prefix string
}

// Validate returns all faults together.
func (c Config) Validate() error {
	var faults []error
	wrong := func(ok bool, what string) {
		if !ok {
			faults = append(faults, fmt.Errorf("%s: %w", what, errs.ErrInvalid))
		}
	}
	u, err := url.Parse(c.URL)
	wrong(err == nil && (u.Scheme == "ws" || u.Scheme == "wss"), "url: want ws://host:port/socket")
	wrong(c.Users > 0 && c.Users <= 16384, "users: want 1 to 16384")
	wrong(c.Rate >= 0, "rate: want no negative number")
	wrong(!c.Produce || c.Speakers == 0, "produce and speakers exclude each other")
	wrong(c.Speakers >= 0 && c.Speakers < max(c.Users, 1), "speakers: want fewer than users")
	wrong(c.Hear >= 0 && c.Hear <= c.Users-c.Speakers && (c.Hear == 0 || c.Speakers > 0), "hear: want listeners of speakers")
	wrong(c.PerAddress > 0, "per-address: want a positive number")
	wrong(c.Timeout > 0, "timeout: want a positive time")
	return errors.Join(faults...)
}

// speaks reports whether user number i produces, listens whether it consumes.
func (c Config) speaks(i int) bool  { return c.Produce || i < c.Speakers }
func (c Config) listens(i int) bool { return c.Speakers > 0 && i >= c.Speakers }

// hears reports whether user number i listens with real media.
func (c Config) hears(i int) bool { return c.listens(i) && i-c.Speakers < c.Hear }

// producers is how many there are once all are in.
func (c Config) producers() int {
	if c.Produce {
		return c.Users
	}
	return c.Speakers
}
