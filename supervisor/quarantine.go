package supervisor

import (
	"context"
	"log/slog"
	"time"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/ledgerfile"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/supervisor/process"
)

// A channel whose router is condemned goes to quarantine: to a worker that no other
// channel is on. A channel in quarantine is on such a worker or on none, whatever the
// order of events:
//
//   - The verdict comes before any process that leaves the router out, so nobody can
//     see the successor and not the verdict.
//   - The verdict names a router. Its channel is found even if it has lost that router
//     meanwhile, has another one, or all its users left and came back.
//   - A placement that is under way at the verdict is looked at when it ends.

const (
	// quarantineFor is how long a channel stays in quarantine after its last crash.
	quarantineFor = 30 * time.Minute
	// ownedFor is how long the owner of a router that is not in use is remembered: longer
	// than its worker may take to close it, or to crash of it.
	ownedFor = 2 * time.Minute
	// maxOwners bounds the routers whose owners are remembered, but for those in use.
	maxOwners = 1 << 16
	// poisonReason is what its users are told.
	poisonReason = "channel crashed its worker"
)

// owner is the channel that a router belongs or belonged to.
type owner struct {
	channel ident.ChannelID
	used    time.Time // when the router was last seen in use
}

// markOf names a router as verdicts do.
func markOf(r *router) uint64 { return ledgerfile.Mark(string(r.id)) }

// ownLocked notes whose router that is.
func (r *registry) ownLocked(of *router, id ident.ChannelID, now time.Time) {
	if len(r.owners) >= maxOwners {
		r.disownLocked(now.Add(ownedFor)) // all that are not in use
	}
	r.owners[markOf(of)] = owner{id, now}
}

// disownLocked forgets the owners of routers that have not been in use for long.
func (r *registry) disownLocked(now time.Time) {
	for _, ch := range r.channels {
		if ch.router != nil {
			r.owners[markOf(ch.router)] = owner{ch.id, now}
		}
		if ch.placing != nil && ch.placing.router != nil {
			r.owners[markOf(ch.placing.router)] = owner{ch.id, now}
		}
	}
	for mark, o := range r.owners {
		if now.Sub(o.used) >= ownedFor {
			delete(r.owners, mark)
		}
	}
}

// endQuarantines lets channels out of quarantine whose time is over, and forgets what
// no verdict can name any more.
func (r *registry) endQuarantines(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.releaseLocked(now)
	r.disownLocked(now)
}

// condemn takes the channel of a router that is poison from its worker. Its clients
// begin anew on a worker that no other channel is on.
func (b *backend) condemn(v process.Verdict) {
	now := time.Now()
	r := b.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	r.releaseLocked(now)
	o, known := r.owners[v.Mark]
	if !known { // the registry may not be rebuilt yet
		r.condemned[v.Mark] = now.Add(quarantineFor)
		return
	}
	b.log.Error("channel goes to quarantine", slog.String(obs.KeyChannel, string(o.channel)), slog.Any(obs.KeySlot, v.Slot),
		slog.String(obs.KeyReason, v.Cause))
	b.isolateLocked(o.channel, v.Mark, now.Add(quarantineFor))
}

// isolateLocked puts a channel into quarantine. Its router is closed if it is the
// condemned one, or on a worker of others.
func (b *backend) isolateLocked(id ident.ChannelID, condemned uint64, until time.Time) {
	b.registry.poisoned[id] = until
	b.workers.Wake()
	ch := b.registry.channels[id]
	if ch == nil || ch.router == nil || (markOf(ch.router) != condemned && b.allowedLocked(id, ch.router.slot)) {
		return
	}
	lost := *ch.router
	b.loseRouterLocked(ch, poisonReason)
	b.carryOut(context.Background(), cleanup{router: lost, closeAll: true})
}

// rejoinQuarantineLocked puts channels of a former supervisor into quarantine: those
// that it had there, and those that were condemned while the registry was rebuilt.
func (b *backend) rejoinQuarantineLocked(now time.Time) {
	reserves := map[ident.Slot]bool{}
	for _, w := range b.workers.Workers() {
		reserves[w.Slot] = w.Reserve
	}
	for _, ch := range b.registry.channels {
		if ch.router == nil {
			continue
		}
		if until, ok := b.registry.condemned[markOf(ch.router)]; ok {
			b.isolateLocked(ch.id, markOf(ch.router), until)
			continue
		}
		// Its own worker has no other channels, so the router is as old as the quarantine.
		if until := madeAt(string(ch.router.id)).Add(quarantineFor); reserves[ch.router.slot] && until.After(now) {
			b.registry.poisoned[ch.id] = until
		}
	}
}

// releaseLocked ends the quarantines that are over.
func (r *registry) releaseLocked(now time.Time) {
	for id, until := range r.poisoned {
		if now.After(until) {
			delete(r.poisoned, id)
		}
	}
	for mark, until := range r.condemned {
		if now.After(until) {
			delete(r.condemned, mark)
		}
	}
}

// admitsLocked reports whether a worker may get the channel: one in quarantine gets the
// quarantine's worker, and no other does.
func (r *registry) admitsLocked(id ident.ChannelID, w process.WorkerInfo) bool {
	until, poisoned := r.poisoned[id]
	return w.Reserve == (poisoned && !time.Now().After(until)) && !w.Draining
}

// allowedLocked is admitsLocked of the worker of a slot.
func (b *backend) allowedLocked(id ident.ChannelID, slot ident.Slot) bool {
	for _, w := range b.workers.Workers() {
		if w.Slot == slot {
			return b.registry.admitsLocked(id, w)
		}
	}
	return false
}
