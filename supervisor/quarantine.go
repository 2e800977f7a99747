package supervisor

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/ledgerfile"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/supervisor/placement"
	"github.com/dspeak/sfu/supervisor/process"
)

const (
	// quarantineFor is how long a channel stays in quarantine after its last crash.
	quarantineFor = 30 * time.Minute
	// quarantinePoll is how often a worker that was just woken is looked at.
	quarantinePoll = 10 * time.Millisecond
	// poisonReason is what its users are told.
	poisonReason = "channel crashed its worker"
)

// quarantine takes the channels that were left out of a takeover from their worker.
// Their clients begin anew on a worker that no other channel is on.
func (b *backend) quarantine(e process.Event) {
	if len(e.Skipped) == 0 {
		return
	}
	now := time.Now()
	b.registry.mu.Lock()
	defer b.registry.mu.Unlock()
	b.registry.releaseLocked(now)
	for _, ch := range b.registry.channels {
		if !ch.on(e.Slot, e.Epoch) || !slices.Contains(e.Skipped, ledgerfile.Mark(string(ch.router.id))) {
			continue
		}
		b.log.Error("channel goes to quarantine", slog.String(obs.KeyChannel, string(ch.id)), slog.Any(obs.KeySlot, e.Slot),
			slog.String(obs.KeyReason, e.Cause))
		b.registry.poisoned[ch.id] = now.Add(quarantineFor)
		b.loseRouterLocked(ch, poisonReason)
		b.workers.Wake()
	}
}

// releaseLocked ends the quarantines that are over.
func (r *registry) releaseLocked(now time.Time) {
	for id, until := range r.poisoned {
		if now.After(until) {
			delete(r.poisoned, id)
		}
	}
}

// eligible are the loads of the workers, where only those serve that may get the
// channel. The quarantine's worker may just have been woken: it is waited for.
func (b *backend) eligible(ctx context.Context, id ident.ChannelID) []placement.Load {
	ctx, cancel := context.WithTimeout(ctx, placeTimeout)
	defer cancel()
	ticker := time.NewTicker(quarantinePoll)
	defer ticker.Stop()
	for {
		loads, wait := b.eligibleNow(id)
		if !wait {
			return loads
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return loads
		}
	}
}

// eligibleNow says whether another moment may tell more.
func (b *backend) eligibleNow(id ident.ChannelID) (loads []placement.Load, wait bool) {
	r := b.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	r.releaseLocked(time.Now())
	_, poisoned := r.poisoned[id]
	infos := b.workers.Workers()
	loads = b.loadsLocked(infos)
	for i, w := range infos {
		loads[i].Serving = loads[i].Serving && w.Reserve == poisoned
		wait = wait || (poisoned && w.Reserve && !loads[i].Serving)
	}
	return loads, wait
}
