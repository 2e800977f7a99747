package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/obs"
)

const (
	// drainedReason is what users are told whose channel outlasted a drain.
	drainedReason = "worker is drained"
	// drainPoll is how often a drain that somebody waits for is looked at.
	drainPoll = 50 * time.Millisecond
)

// drain gives a worker no new channels, and ends those that are left after the deadline;
// 0: never. A drain that was on gets the new deadline. Errors: errs.ErrNotFound without
// such a worker.
func (b *backend) drain(slot ident.Slot, deadline time.Duration) error {
	r := b.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if !b.workers.Drain(slot, true) {
		return fmt.Errorf("worker %d: %w", slot, errs.ErrNotFound)
	}
	r.stopDrainLocked(slot)
	if deadline > 0 {
		r.drains[slot] = time.AfterFunc(deadline, func() { b.endChannels(slot) })
	}
	b.log.Info("worker is drained", slog.Any(obs.KeySlot, slot), slog.Duration("deadline", deadline))
	return nil
}

// undrain ends a drain.
func (b *backend) undrain(slot ident.Slot) error {
	r := b.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if !b.workers.Drain(slot, false) {
		return fmt.Errorf("worker %d: %w", slot, errs.ErrNotFound)
	}
	r.stopDrainLocked(slot)
	return nil
}

func (r *registry) stopDrainLocked(slot ident.Slot) {
	if timer := r.drains[slot]; timer != nil {
		timer.Stop()
		delete(r.drains, slot)
	}
}

// endChannels ends the channels of a worker: their users stay in them, and their
// clients begin anew, on another one.
func (b *backend) endChannels(slot ident.Slot) {
	r := b.registry
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	b.background.Add(1) // under the lock: the end of the process waits for it
	defer b.background.Done()
	delete(r.drains, slot)
	var todo []cleanup
	for _, ch := range r.channels {
		if ch.router != nil && ch.router.slot == slot {
			todo = append(todo, cleanup{router: *ch.router, closeAll: true})
			b.loseRouterLocked(ch, drainedReason)
		}
	}
	r.mu.Unlock()
	b.log.Info("drain is over", slog.Any(obs.KeySlot, slot), slog.Int("channels_ended", len(todo)))
	for _, c := range todo {
		b.carryOut(context.Background(), c)
	}
}

// awaitDrained waits until no channel is left on a worker.
func (b *backend) awaitDrained(ctx context.Context, slot ident.Slot) error {
	ticker := time.NewTicker(drainPoll)
	defer ticker.Stop()
	for {
		b.registry.mu.Lock()
		left := 0
		for _, ch := range b.registry.channels {
			if ch.router != nil && ch.router.slot == slot {
				left++
			}
		}
		b.registry.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%d channels are left on worker %d: %w", left, slot, ctx.Err())
		}
	}
}
