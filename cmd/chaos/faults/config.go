package faults

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dspeak/sfu/internal/errs"
)

// Kind names a fault.
type Kind string

// The faults.
const (
	// Kill is a SIGKILL of a worker, Segfault a SIGSEGV, Stop a SIGSTOP.
	Kill     Kind = "worker-kill"
	Segfault Kind = "worker-segv"
	Stop     Kind = "worker-stop"
	// Double kills a worker, and its successor as soon as that is known.
	Double Kind = "worker-double-kill"
	// Supervisor is a SIGKILL of the supervisor, and a new one.
	Supervisor Kind = "supervisor-kill"
	// Restart is `dspeakctl restart`, Upgrade is `dspeakctl upgrade`.
	Restart Kind = "restart"
	Upgrade Kind = "upgrade"
	// Freeze stops the supervisor and all workers for a moment, and continues them.
	Freeze Kind = "freeze"
)

// Kinds lists all, in the order of the report.
func Kinds() []Kind {
	return []Kind{Kill, Segfault, Stop, Double, Restart, Supervisor, Upgrade, Freeze}
}

// ParseFaults reads a list such as "worker-kill,restart=3": kinds, each with how often
// it strikes or as often as usual; an empty list means all.
func ParseFaults(list string, usual map[Kind]int) (map[Kind]int, error) {
	if list == "" {
		return usual, nil
	}
	counts := map[Kind]int{}
	for item := range strings.SplitSeq(list, ",") {
		name, number, given := strings.Cut(item, "=")
		kind := Kind(name)
		if !slices.Contains(Kinds(), kind) {
			return nil, fmt.Errorf("fault %q, want some of %q: %w", name, Kinds(), errs.ErrInvalid)
		}
		n := usual[kind]
		if given {
			var err error
			if n, err = strconv.Atoi(number); err != nil {
				return nil, fmt.Errorf("fault %s: %q times: %w", kind, number, errs.ErrInvalid)
			}
		}
		counts[kind] = n
	}
	return counts, nil
}

// Config says what call is made and what is done to it.
type Config struct {
	// Programs is the directory of the supervisor, worker and dspeakctl programs.
	Programs string
	// Channels and Users in each: everyone speaks and hears the others.
	Channels, Users int
	// Restless of the users come, go and produce anew all the time, at most half of
	// each channel.
	Restless int
	// TCP of the users who stay have their media over TCP, one in a channel.
	TCP     int
	Workers int
	// Faults is how often each kind strikes.
	Faults map[Kind]int
	// Repeat is the share of sent packets after which an older one is sent again, as
	// a network does.
	Repeat float64
	Seed   uint64
	// Window is the least time that is measured around each fault, and without one
	// between two.
	Window time.Duration
	// Deadline is the time after a fault in which everyone must be heard again.
	Deadline time.Duration
	// Targets makes the times of Report.Targets a condition of success.
	Targets bool
	// MaxFailures ends the run after so many faults that were not survived; 0: never.
	MaxFailures int
	// Env is set for the supervisor besides what the run itself sets.
	Env map[string]string
	// Log is a file for the servers' output; empty: it is dropped.
	Log string
	// Say is told what happens; nil: nobody is.
	Say func(string)
}

// Validate reports all faults of the configuration together.
func (c Config) Validate() error {
	var faults []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format+": %w", append(args, errs.ErrInvalid)...))
		}
	}
	want(c.Channels >= 1 && c.Channels <= 1000, "channels %d, want 1 to 1000", c.Channels)
	want(c.Users >= 2 && c.Users <= 100, "users %d in a channel, want 2 to 100", c.Users)
	want(c.Channels*c.Users <= 2000, "%d users in all, want at most 2000", c.Channels*c.Users)
	want(c.Restless >= 0 && c.Restless <= c.Channels*(c.Users-c.Users/2), "restless users %d, want at most half of all", c.Restless)
	want(c.TCP >= 0 && c.TCP <= c.Channels, "users over TCP %d, want at most one in a channel", c.TCP)
	want(c.Workers >= 1 && c.Workers <= 64, "workers %d, want 1 to 64", c.Workers)
	want(c.Repeat >= 0 && c.Repeat <= 0.5, "repeated packets %g, want up to 0.5", c.Repeat)
	want(c.Window >= 100*time.Millisecond && c.Window <= 10*time.Second, "window %v, want 100ms to 10s", c.Window)
	want(c.Deadline >= c.Window && c.Deadline <= time.Minute, "deadline %v, want from the window to 1m", c.Deadline)
	for kind, n := range c.Faults {
		want(n >= 0 && n <= 10_000, "%d of the fault %s, want 0 to 10000", n, kind)
	}
	return errors.Join(faults...)
}
