package supervisor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dspeak/sfu/internal/ident"
	interopwire "github.com/dspeak/sfu/interop/wire"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/signaling/wire"
	"github.com/dspeak/sfu/supervisor/process"
)

// crashedReason is what users are told whose worker lost its state.
const crashedReason = "worker crashed"

// followWorkers handles the pool's events until they end.
func (b *backend) followWorkers(ctx context.Context, events <-chan process.Event) {
	for e := range events {
		switch e.Kind {
		case process.EventReady:
			b.setFault(fault{e.Slot, crashed}, "")
		case process.EventAdopted:
			b.setFault(fault{e.Slot, crashed}, "")
			if b.adoptions.note(e.Slot) { // nobody knows what it carries
				b.reconcileLater(ctx, e.Slot, e.Epoch)
			}
		case process.EventTakeover:
			b.takenOver(ctx, e)
		case process.EventDown, process.EventFailed:
			b.workerDown(e)
			b.adoptions.note(e.Slot)
		case process.EventMissed:
			b.reconcileLater(ctx, e.Slot, e.Epoch)
		case process.EventWorker:
			if closed := e.Worker.GetTransportClosed(); closed != nil {
				b.transportClosed(closed)
			}
		}
	}
}

// workerDown tells everyone on a worker that lost its state, and forgets the media.
func (b *backend) workerDown(e process.Event) {
	b.setFault(fault{e.Slot, crashed}, fmt.Sprintf("worker %d: %s", e.Slot, e.Cause))
	b.registry.mu.Lock()
	defer b.registry.mu.Unlock()
	for _, ch := range b.registry.channels {
		if ch.on(e.Slot, e.Epoch) {
			b.loseRouterLocked(ch, crashedReason)
		}
	}
}

// on says whether the channel is on a worker with that state.
func (ch *channel) on(slot ident.Slot, epoch ident.Epoch) bool {
	return ch.router != nil && ch.router.slot == slot && ch.router.epoch == epoch
}

// loseRouterLocked forgets a channel's media, and tells its users. The next request
// that needs media places the channel anew.
func (b *backend) loseRouterLocked(ch *channel, reason string) {
	ch.carried, ch.router = ch.weightLocked(time.Now()), nil
	for _, u := range ch.users {
		for _, t := range u.transports {
			for _, s := range u.sessions {
				s.Send(wire.TransportClosed{ID: t.id, Reason: reason})
			}
		}
		u.transports, u.consumers = nil, nil
	}
	for len(ch.producers) > 0 {
		b.endProducerLocked(ch.producers[0], nil)
	}
	b.changedLocked(ch, changeProducers)
}

// transportClosed handles a transport that its worker gave up.
func (b *backend) transportClosed(e *workerv1.TransportClosedEvent) {
	b.registry.mu.Lock()
	defer b.registry.mu.Unlock()
	for _, ch := range b.registry.channels {
		if ch.router == nil || string(ch.router.id) != e.GetRouterId() {
			continue
		}
		for _, u := range ch.users {
			if t := u.transport(ident.TransportID(e.GetTransportId())); t != nil {
				b.giveUpLocked(u, t, e.GetReason())
				return
			}
		}
	}
}

// workerDtlsFailed is how a worker calls a transport whose handshake failed.
const workerDtlsFailed = "dtls failed"

func (b *backend) giveUpLocked(u *user, t *transport, reason string) {
	p := b.registry.dropTransportLocked(u, t)
	if reason == workerDtlsFailed {
		b.mediaFailedLocked(u)
	}
	for _, s := range u.sessions {
		s.Send(wire.TransportClosed{ID: t.id, Reason: reason})
	}
	if p != nil {
		b.endProducerLocked(p, nil)
		b.changedLocked(u.channel, changeProducers)
	}
}

// mediaFailedLocked tells the main server of a user who is there, but without media:
// no transport is left that a client has connected.
func (b *backend) mediaFailedLocked(u *user) {
	connected := slices.ContainsFunc(u.transports, func(t *transport) bool { return t.connected })
	if connected || u.mediaFailed || len(u.sessions) == 0 || b.grace <= 0 {
		return // without a socket, the user's leave is staged already
	}
	u.mediaFailed = true
	b.tellPresenceLocked(interopwire.EventStagedLeave, u, interopwire.ReasonDtlsFailed)
}

// mediaBackLocked takes it back when a client connects another transport.
func (b *backend) mediaBackLocked(u *user) {
	if u.mediaFailed && !u.gone {
		u.mediaFailed = false
		b.tellPresenceLocked(interopwire.EventRejoin, u, "media connected")
	}
}
