package supervisor

import (
	"context"
	"slices"
	"time"

	"github.com/dspeak/sfu/internal/ident"
)

// unusedAfter is the age at which a transport counts as never used.
const unusedAfter = time.Minute

// A client connects a transport with its first producer or consumer. So one that is
// not connected may be unused, or belong to somebody who waits alone. The shipped
// client asks for two new transports at every reconnect and goes on with the old ones:
// then the user has a connected transport that another socket made, which has ended.
// Only such a user's transports are dropped, and silently: nobody knows of them.

// dropUnused gives up the transports that no client will use.
func (b *backend) dropUnused(ctx context.Context, now time.Time) {
	r := b.registry
	var todo []cleanup
	r.mu.Lock()
	for _, ch := range r.channels {
		var dropped []ident.TransportID
		for _, u := range ch.users {
			dropped = append(dropped, u.dropUnusedLocked(r, now)...)
		}
		if len(dropped) > 0 && ch.router != nil {
			todo = append(todo, cleanup{router: *ch.router, transports: dropped})
		}
	}
	r.mu.Unlock()
	for _, c := range todo {
		b.carryOut(ctx, c)
	}
}

func (u *user) dropUnusedLocked(r *registry, now time.Time) []ident.TransportID {
	restored := slices.ContainsFunc(u.transports, func(t *transport) bool {
		return t.connected && !u.openLocked(t)
	})
	if !restored {
		return nil
	}
	var dropped []ident.TransportID
	for _, t := range slices.Clone(u.transports) {
		siblings := slices.ContainsFunc(u.transports, func(o *transport) bool { return o.connected && o.session == t.session })
		if !siblings && u.idleLocked(t) && now.Sub(t.created) >= unusedAfter {
			r.dropTransportLocked(u, t)
			dropped = append(dropped, t.id)
		}
	}
	return dropped
}

// openLocked says whether the socket that made the transport is open.
func (u *user) openLocked(t *transport) bool { return slices.Contains(u.sessions, t.session) }

// idleLocked says whether the transport carries nothing and was never connected.
func (u *user) idleLocked(t *transport) bool {
	return !t.connected && len(t.consuming) == 0 && (u.producer == nil || u.producer.transport != t)
}

// makeRoom says whether the user may have one more transport. When there are too
// many, the newest unused one of an ended socket goes: what a client uses it made
// before it began to reconnect.
func (c *call) makeRoom(ctx context.Context, u *user) bool {
	c.registry.mu.Lock()
	defer c.registry.mu.Unlock()
	if len(u.transports) < maxTransports {
		return true
	}
	for _, t := range slices.Backward(u.transports) {
		if !u.openLocked(t) && u.idleLocked(t) {
			c.registry.dropTransportLocked(u, t)
			if r := u.channel.router; r != nil {
				c.carryOut(ctx, cleanup{router: *r, transports: []ident.TransportID{t.id}})
			}
			return true
		}
	}
	return false
}
