package supervisor

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/obs"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/signaling/wire"
	"github.com/dspeak/sfu/supervisor/process"
)

// followWorkers handles the pool's events until they end.
func (b *backend) followWorkers(ctx context.Context, events <-chan process.Event) {
	for e := range events {
		switch e.Kind {
		case process.EventReady, process.EventAdopted:
			b.setFault(fault{e.Slot, crashed}, "")
		case process.EventTakeover:
			if e.Cause != process.CauseRestart {
				b.setFault(fault{e.Slot, crashed}, fmt.Sprintf("worker %d: %s; another process went on", e.Slot, e.Cause))
				b.setFault(fault{e.Slot, crashed}, "")
			}
			b.reconcileLater(ctx, e)
		case process.EventDown, process.EventFailed:
			b.workerDown(e)
		case process.EventMissed:
			b.reconcileLater(ctx, e)
		case process.EventWorker:
			if closed := e.Worker.GetTransportClosed(); closed != nil {
				b.transportClosed(closed)
			}
		}
	}
}

// workerDown tells everyone on a dead worker, and forgets the media.
func (b *backend) workerDown(e process.Event) {
	b.setFault(fault{e.Slot, crashed}, fmt.Sprintf("worker %d: %s", e.Slot, e.Cause))
	reason := "worker crashed"
	b.registry.mu.Lock()
	defer b.registry.mu.Unlock()
	for _, ch := range b.registry.channels {
		if ch.router == nil || ch.router.slot != e.Slot || ch.router.epoch != e.Epoch {
			continue
		}
		b.forgetMediaLocked(ch, reason)
	}
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

func (b *backend) giveUpLocked(u *user, t *transport, reason string) {
	p := b.registry.dropTransportLocked(u, t)
	for _, s := range u.sessions {
		s.Send(wire.TransportClosed{ID: t.id, Reason: reason})
	}
	if p != nil {
		b.endProducerLocked(p, nil)
		b.broadcastLocked(u.channel, nil, u.channel.inChannelLocked())
	}
}

// lostTransport is what a client is told when the worker's own reason was missed.
const lostTransport = "closed by the worker"

// reconcileLater runs reconcile beside the events that follow: a dump takes its time.
func (b *backend) reconcileLater(ctx context.Context, e process.Event) {
	b.background.Go(func() {
		if err := b.reconcile(ctx, e.Slot, e.Epoch); err != nil && ctx.Err() == nil {
			b.log.Warn("events of a worker missed", slog.Any(obs.KeySlot, e.Slot), obs.Err(err))
		}
	})
}

// reconcile finds the transports that a worker gave up while nobody listened, by the
// worker's dump.
func (b *backend) reconcile(ctx context.Context, slot ident.Slot, epoch ident.Epoch) error {
	client, now, ok := b.workers.Client(slot)
	if !ok || now != epoch {
		return nil // all of it is gone, which is an event of its own
	}
	// What is known now is on the worker now, or was given up: a dump that follows
	// tells which. What comes meanwhile is left alone.
	known := b.registry.transportsOn(slot, epoch)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	dump, err := client.Dump(ctx, &workerv1.DumpRequest{})
	if err != nil {
		return err
	}
	left := map[string]bool{}
	for _, r := range dump.GetWorker().GetRouters() {
		for _, t := range r.GetTransports() {
			left[t.GetId()] = true
		}
	}
	b.registry.mu.Lock()
	defer b.registry.mu.Unlock()
	for t, u := range known {
		if !left[string(t.id)] && !u.gone && u.transport(t.id) == t {
			b.giveUpLocked(u, t, lostTransport)
		}
	}
	return nil
}

// transportsOn are the transports on one worker process, with their users.
func (r *registry) transportsOn(slot ident.Slot, epoch ident.Epoch) map[*transport]*user {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := map[*transport]*user{}
	for _, ch := range r.channels {
		if ch.router == nil || ch.router.slot != slot || ch.router.epoch != epoch {
			continue
		}
		for _, u := range ch.users {
			for _, t := range u.transports {
				known[t] = u
			}
		}
	}
	return known
}
