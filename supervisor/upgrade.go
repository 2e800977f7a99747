package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dspeak/sfu/internal/config"
	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/lapse"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/supervisor/process"
	"github.com/dspeak/sfu/supervisor/service"
)

const (
	// rollTimeout bounds the replacement of one worker, with the way back.
	rollTimeout = 15 * time.Second
	// signalledDrain is the drain deadline of an upgrade that a signal asked for.
	signalledDrain = time.Hour
)

// upgrader brings the programs on disk into use.
type upgrader struct {
	backend *backend
	pool    *process.Pool
	self    *service.Self
	log     *slog.Logger
	started time.Time
	// replace is closed when this process is to replace itself.
	replace chan struct{}

	running sync.Mutex // held by the one upgrade at a time
}

// upgraded is what an upgrade did.
type upgraded struct {
	version string
	drained []ident.Slot
}

// run rolls the workers, one after another, and then lets the supervisor replace
// itself. A worker whose state the new program cannot read is drained first, within
// the deadline; 0 refuses that. With an error everything is as before. Any goroutine.
func (u *upgrader) run(ctx context.Context, deadline time.Duration) (upgraded, error) {
	var done upgraded
	if !u.running.TryLock() {
		return done, fmt.Errorf("upgrade under way: %w", errs.ErrExists)
	}
	defer u.running.Unlock()
	select {
	case <-u.replace:
		return done, fmt.Errorf("the supervisor is replacing itself: %w", errs.ErrExists)
	default:
	}
	if err := u.self.Check(ctx, "--"+config.FlagCheck); err != nil {
		return done, err
	}
	rolling, err := u.pool.Upgrade(ctx)
	if err != nil {
		return done, err
	}
	done.version = rolling.Version
	for _, w := range u.pool.Workers() {
		renewed, err := u.roll(ctx, rolling, w.Slot, deadline)
		if err != nil {
			u.log.Error("upgrade rolled back", slog.Any(obs.KeySlot, w.Slot), obs.Err(err))
			back, cancel := lapse.WithTimeout(context.WithoutCancel(ctx), rollTimeout)
			defer cancel()
			rolling.RollBack(back)
			return done, err
		}
		if renewed {
			done.drained = append(done.drained, w.Slot)
		}
	}
	rolling.Commit()
	u.log.Info("workers upgraded, the supervisor follows", slog.String("version", done.version))
	close(u.replace)
	return done, nil
}

// roll replaces one worker. renewed: it was drained and began with nothing.
func (u *upgrader) roll(ctx context.Context, rolling *process.Upgrade, slot ident.Slot, deadline time.Duration) (renewed bool, err error) {
	if !rolling.Reads(slot) {
		if deadline <= 0 {
			return false, fmt.Errorf("the new program cannot read the state of worker %d, and its users would be lost; "+
				"name a deadline to drain it: %w", slot, errs.ErrUnsupported)
		}
		u.log.Warn("the new program cannot read a worker's state, it is drained", slog.Any(obs.KeySlot, slot))
		if err := u.backend.drain(slot, deadline); err != nil { //nolint:contextcheck // its deadline outlasts the call
			return false, err
		}
		defer func() { err = errors.Join(err, u.backend.undrain(slot)) }()
		if err := u.backend.awaitDrained(ctx, slot); err != nil {
			return false, err
		}
		renewed = true
	}
	bounded, cancel := lapse.WithTimeout(ctx, rollTimeout)
	defer cancel()
	return renewed, rolling.Roll(bounded, slot, renewed)
}

// follow upgrades at each signal until ctx ends.
func (u *upgrader) follow(ctx context.Context, signals <-chan struct{}) {
	for {
		select {
		case <-signals:
		case <-ctx.Done():
			return
		}
		if _, err := u.run(ctx, signalledDrain); err != nil {
			u.log.Error("no upgrade", obs.Err(err))
		}
	}
}
