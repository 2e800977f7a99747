package process

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/obs"
)

const (
	// trialTimeout bounds how long a process of a new program may take from its slot to
	// its readiness: nobody carries the slot's media meanwhile.
	trialTimeout = time.Second
	// proofTimeout bounds the first health check of a new program that serves.
	proofTimeout = time.Second
)

// Upgrade brings another worker program to the slots, one after another. Until Commit
// a worker that crashes is replaced by the former program. It belongs to one
// goroutine, which ends it with Commit or RollBack.
type Upgrade struct {
	pool    *Pool
	program *program
	rolled  []ident.Slot
	// Version and layout are the new program's.
	Version string
	layout  uint64
}

// Upgrade opens the program that is on disk now and tries whether it starts. Errors:
// errs.ErrExists while another upgrade is under way, or why it does not start.
func (p *Pool) Upgrade(ctx context.Context) (*Upgrade, error) {
	if !p.upgrading.TryLock() {
		return nil, fmt.Errorf("upgrade under way: %w", errs.ErrExists)
	}
	u := &Upgrade{pool: p}
	err := u.try(ctx)
	if err != nil {
		u.end()
		return nil, err
	}
	return u, nil
}

func (u *Upgrade) try(ctx context.Context) (err error) {
	if u.program, err = openProgram(u.pool.cfg.Binary); err != nil {
		return err
	}
	c, err := u.spawn(ctx)
	if err != nil {
		return err
	}
	u.Version, u.layout = c.version, c.layout
	c.stop(lastMoment, nil)
	return nil
}

func (u *Upgrade) spawn(ctx context.Context) (*child, error) {
	c, err := u.pool.spawn(ctx, u.program, -1)
	if err != nil {
		return nil, fmt.Errorf("the new worker program does not start: %w", err)
	}
	c.trial = true
	return c, nil
}

// Reads says whether the new program can go on with the state of a slot's worker, if
// one has served yet.
func (u *Upgrade) Reads(slot ident.Slot) bool {
	k := u.pool.keepers[slot]
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.layout == 0 || k.layout == u.layout
}

// Roll replaces a slot's process by one of the new program that goes on with its state,
// or, with renew, begins with nothing. When that does not serve in time the former
// program goes on, and the error says why.
func (u *Upgrade) Roll(ctx context.Context, slot ident.Slot, renew bool) error {
	k := u.pool.keepers[slot]
	c, err := u.spawn(ctx)
	if err != nil {
		return err
	}
	r := replacement{cause: CauseRestart, by: c}
	if renew {
		r.cause = CauseUpgrade
	}
	now, err := k.replaced(ctx, r)
	if err != nil {
		c.kill() // the keeper did not take it, or it takes too long
		return err
	}
	if now.PID == c.pid() {
		u.rolled = append(u.rolled, slot)
		if err := checkOnce(ctx, healthv1.NewHealthClient(k.conn), proofTimeout); err != nil {
			return fmt.Errorf("worker %d with the new program: %w: %w", slot, err, errs.ErrUnavailable)
		}
	}
	if now := k.snapshot(); now.PID != c.pid() {
		return fmt.Errorf("worker %d does not serve with the new program, the former goes on: %s: %w", slot, now.Fault, errs.ErrUnavailable)
	}
	return nil
}

// Commit makes the new program the one that workers are started from.
func (u *Upgrade) Commit() {
	former := u.pool.program.Swap(u.program)
	u.program = nil
	u.pool.mu.Lock()
	u.pool.former = append(u.pool.former, former) // a worker may be starting from it
	u.pool.mu.Unlock()
	select {
	case u.pool.stale <- struct{}{}:
	default:
	}
	u.end()
}

// RollBack brings the former program back to the slots that were rolled.
func (u *Upgrade) RollBack(ctx context.Context) {
	for _, slot := range u.rolled {
		if err := u.pool.Restart(ctx, slot); err != nil {
			u.pool.log.Error("worker not rolled back", slog.Any(obs.KeySlot, slot), obs.Err(err))
		}
	}
	u.end()
}

func (u *Upgrade) end() {
	if u.program != nil {
		_ = u.program.close() // it was only read
		u.program = nil
	}
	u.pool.upgrading.Unlock()
}
