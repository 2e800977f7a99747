package signaling

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/dspeak/sfu/internal/errs"
)

// admission lets clients in at a bounded rate, so that all of them may come back at
// once: the rest waits in the order of arrival. Any goroutine may use it.
type admission struct {
	limiter  *rate.Limiter
	queue    int64         // how many may wait
	patience time.Duration // and how long
	waiting  atomic.Int64
	refused  atomic.Uint64
	// closing ends all waiting.
	closing chan struct{}
}

func newAdmission(l Limits) *admission {
	return &admission{
		limiter: rate.NewLimiter(rate.Limit(l.AdmissionRate), l.AdmissionBurst),
		queue:   int64(l.AdmissionQueue), patience: l.AdmissionWait, closing: make(chan struct{}),
	}
}

var (
	errQueueFull = fmt.Errorf("too many clients come at once, try again later: %w", errs.ErrExhausted)
	errStopping  = fmt.Errorf("server is stopping: %w", errs.ErrUnavailable)
)

// enter returns when it is the client's turn. A client whose turn would come too late
// is refused at once: that is an errs.ErrExhausted.
func (a *admission) enter(ctx context.Context) error {
	turn := a.limiter.Reserve()
	delay := turn.Delay()
	if delay <= 0 {
		return nil
	}
	defer a.waiting.Add(-1)
	if a.waiting.Add(1) > a.queue || delay > a.patience {
		turn.Cancel()
		a.refused.Add(1)
		return errQueueFull
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-a.closing:
		turn.Cancel()
		return errStopping
	case <-ctx.Done():
		turn.Cancel()
		return ctx.Err()
	}
}
