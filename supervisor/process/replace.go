package process

import (
	"context"
	"fmt"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
)

// Causes of an end that was asked for.
const (
	// CauseRestart: another process goes on with the state.
	CauseRestart = "restarted on request"
	// CauseUpgrade: another process begins with nothing.
	CauseUpgrade = "replaced by another version"
)

// replacePoll is how often a replacement that was asked for is looked at.
const replacePoll = 5 * time.Millisecond

// replacement asks a keeper to replace the process that serves.
type replacement struct {
	cause  string
	by     *child       // nil: the spare, or a fresh one
	answer chan<- error // gets at once whether it is done
}

// replaceable says whether users would outlive the replacement, if they are to.
func (k *keeper) replaceable(r replacement) error {
	if r.cause == CauseRestart && k.state.ledger == nil {
		return fmt.Errorf("worker %d has no ledger, a restart would lose its users: %w", k.slot, errs.ErrUnavailable)
	}
	return nil
}

// Restart replaces a slot's process by a new one that goes on with its state, and
// returns when that serves. Errors: errs.ErrNotFound without such a slot,
// errs.ErrUnavailable when it does not serve or the state was lost, or the context's.
func (p *Pool) Restart(ctx context.Context, slot ident.Slot) error {
	k := p.keeper(slot)
	if k == nil {
		return fmt.Errorf("worker %d of %d: %w", slot, len(p.keepers), errs.ErrNotFound)
	}
	before := k.snapshot()
	after, err := k.replaced(ctx, replacement{cause: CauseRestart})
	if err == nil && after.Epoch != before.Epoch {
		return fmt.Errorf("worker %d could not go on with its state: %w", slot, errs.ErrUnavailable)
	}
	return err
}

// replaced asks for another process and waits until one serves.
func (k *keeper) replaced(ctx context.Context, r replacement) (WorkerInfo, error) {
	before, answer := k.snapshot(), make(chan error, 1)
	r.answer = answer
	select {
	case k.replace <- r:
	case <-ctx.Done():
		return before, fmt.Errorf("worker %d does not serve: %w", k.slot, errs.ErrUnavailable)
	}
	if err := <-answer; err != nil {
		return before, err
	}
	ticker := time.NewTicker(replacePoll)
	defer ticker.Stop()
	for {
		now := k.snapshot()
		if now.Generation > before.Generation && now.State == StateReady {
			return now, nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return now, fmt.Errorf("worker %d is not back: %w", k.slot, ctx.Err())
		}
	}
}
