package process

import (
	"math"
	"math/rand/v2"
	"time"
)

const (
	failureHalfLife = 30 * time.Second
	backoffBase     = 200 * time.Millisecond
	backoffMax      = 10 * time.Second
	// backoffJitter spreads the pause by a quarter each way.
	backoffJitter = 0.25
)

// restartPolicy says how long to wait before a slot is served again. Its failure
// count halves every 30 s. It belongs to one keeper.
type restartPolicy struct {
	// burst failures may follow each other without a pause: the spare takes over, and
	// nobody hears it.
	burst    int
	failures float64
	last     time.Time
	random   func() float64 // 0 to 1
}

func newRestartPolicy(burst int) restartPolicy {
	return restartPolicy{burst: burst, random: rand.Float64}
}

// failed books a failure and returns the pause: none for a rare failure, then
// doubling with jitter up to ten seconds.
func (p *restartPolicy) failed(now time.Time) time.Duration {
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
