package process

import (
	"math"
	"math/rand/v2"
	"time"
)

const (
	// youngAge is how long a process must have served to count as one that works. One that
	// ends before, or never comes to serve, died young: its successor may do the same.
	youngAge        = time.Second
	failureHalfLife = 30 * time.Second
	backoffBase     = 200 * time.Millisecond
	backoffMax      = 10 * time.Second
	// backoffJitter spreads the pause by a quarter each way.
	backoffJitter = 0.25
)

// restartPolicy says how long to wait before a process is replaced. Only processes that
// die young one after another are waited for, so that a program that cannot start and a
// state that crashes everyone who goes on with it do not eat the machine. Whatever ends
// after it has served for youngAge is replaced at once: its users wait, and restarts come
// once a second at most. The policy belongs to one goroutine.
type restartPolicy struct {
	// burst young deaths may follow each other without a pause.
	burst    int
	failures float64 // young deaths in a row; halved every failureHalfLife
	last     time.Time
	random   func() float64 // 0 to 1
}

func newRestartPolicy(burst int) restartPolicy {
	return restartPolicy{burst: burst, random: rand.Float64}
}

// ended books the end of a process that served for so long, 0 if it never came to serve,
// and returns the pause before the next one: none after a process that worked or a rare
// young death, then doubling with jitter up to ten seconds.
func (p *restartPolicy) ended(now time.Time, served time.Duration) time.Duration {
	if served >= youngAge {
		p.failures = 0
		return 0
	}
	if !p.last.IsZero() {
		p.failures *= math.Exp2(-float64(now.Sub(p.last)) / float64(failureHalfLife))
	}
	p.last = now
	p.failures++
	beyond := p.failures - float64(p.burst)
	if beyond <= 0.5 {
		return 0
	}
	pause := min(float64(backoffBase)*math.Exp2(beyond-1), float64(backoffMax))
	return time.Duration(pause * (1 + backoffJitter*(2*p.random()-1)))
}
