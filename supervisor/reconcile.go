package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/obs"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/signaling/wire"
)

// A reconciliation compares the registry with a worker's dump, in both directions.
// What the registry has and the worker has not is told as closed, to those whom it
// concerns. What the worker has and the registry does not know is closed, unless a
// call under way makes it.

// lostObject is what a client is told when the worker's own reason was missed.
const lostObject = "closed by the worker"

const (
	reconcileAttempts = 3
	reconcilePause    = 500 * time.Millisecond
)

// reconcileLater runs reconcile beside the events that follow: a dump takes its time.
func (b *backend) reconcileLater(ctx context.Context, slot ident.Slot, epoch ident.Epoch) {
	b.background.Go(func() {
		select {
		case <-b.adoptions.built: // before that, all that the worker has would look strange
		case <-ctx.Done():
			return
		}
		err := b.reconcile(ctx, slot, epoch)
		for attempt := 1; err != nil && attempt < reconcileAttempts && ctx.Err() == nil; attempt++ {
			rest(ctx, reconcilePause)
			err = b.reconcile(ctx, slot, epoch)
		}
		if err != nil && ctx.Err() == nil {
			b.log.Error("registry not compared with the worker", slog.Any(obs.KeySlot, slot), obs.Err(err))
		}
	})
}

// rest waits, or returns early when ctx ends.
func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// reconcile makes the registry and one worker agree.
func (b *backend) reconcile(ctx context.Context, slot ident.Slot, epoch ident.Epoch) error {
	client, now, ok := b.workers.Client(slot)
	if !ok || now != epoch {
		return nil // all of it is gone, which is an event of its own
	}
	// What is known now is on the worker now, or was given up: a dump that follows
	// tells which. What comes meanwhile is left alone.
	known := b.registry.knownOn(slot, epoch)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := client.Dump(ctx, &workerv1.DumpRequest{})
	switch dumped := ident.Epoch(resp.GetWorker().GetEpoch()); {
	case errors.Is(err, errs.ErrUnavailable):
		if _, now, ok := b.workers.Client(slot); !ok || now != epoch {
			return nil
		}
		return err
	case err != nil:
		return err
	case dumped != epoch:
		return fmt.Errorf("dump of epoch %d, want %d: %w", dumped, epoch, errs.ErrUnavailable)
	}
	b.registry.mu.Lock()
	b.dropLostLocked(known, indexDump(resp.GetWorker()))
	strange := b.registry.strangersLocked(slot, epoch, resp.GetWorker())
	b.registry.mu.Unlock()
	for _, c := range strange {
		b.log.Warn("worker has what nobody knows", slog.Any(obs.KeySlot, slot), slog.String(obs.KeyRouter, string(c.router.id)),
			slog.Bool("all", c.closeAll), slog.Int("transports", len(c.transports)), slog.Int("producers", len(c.producers)),
			slog.Int("consumers", len(c.consumers)))
		b.carryOut(ctx, c)
	}
	return nil
}

// known are the objects of the registry on one worker, with their owners.
type known struct {
	channels   map[*router]*channel
	transports map[*transport]*user
	producers  map[*producer]*user
	consumers  map[*consumer]*user
}

func (r *registry) knownOn(slot ident.Slot, epoch ident.Epoch) known {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.knownOnLocked(slot, epoch)
}

func (r *registry) knownOnLocked(slot ident.Slot, epoch ident.Epoch) known {
	k := known{map[*router]*channel{}, map[*transport]*user{}, map[*producer]*user{}, map[*consumer]*user{}}
	for _, ch := range r.channels {
		if !ch.on(slot, epoch) {
			continue
		}
		k.channels[ch.router] = ch
		for _, u := range ch.users {
			for _, t := range u.transports {
				k.transports[t] = u
			}
			for _, c := range u.consumers {
				k.consumers[c] = u
			}
			if u.producer != nil {
				k.producers[u.producer] = u
			}
		}
	}
	return k
}

// dumped is a worker's objects by id.
type dumped struct {
	routers    map[string]bool
	transports map[string]*workerv1.TransportDump
	producers  map[string]bool
	consumers  map[string]bool
}

func indexDump(w *workerv1.WorkerDump) dumped {
	d := dumped{map[string]bool{}, map[string]*workerv1.TransportDump{}, map[string]bool{}, map[string]bool{}}
	for _, r := range w.GetRouters() {
		d.routers[r.GetId()] = true
		for _, t := range r.GetTransports() {
			d.transports[t.GetId()] = t
			for _, p := range t.GetProducers() {
				d.producers[p.GetId()] = true
			}
			for _, c := range t.GetConsumers() {
				d.consumers[c.GetId()] = true
			}
		}
	}
	return d
}

// dropLostLocked gives up what the worker has not, the larger objects first: they
// take the smaller ones with them.
func (b *backend) dropLostLocked(k known, there dumped) {
	for r, ch := range k.channels {
		if !there.routers[string(r.id)] && ch.router == r {
			b.loseRouterLocked(ch, lostObject)
		}
	}
	for t, u := range k.transports {
		dump := there.transports[string(t.id)]
		switch {
		case u.gone || u.transport(t.id) != t: // ended meanwhile
		case dump == nil:
			b.giveUpLocked(u, t, lostObject)
		case connectedRole(dump.GetDtlsLocalRole()):
			t.connected = true // the answer may have been lost
		}
	}
	b.dropLostStreamsLocked(k, there)
}

func (b *backend) dropLostStreamsLocked(k known, there dumped) {
	for p, u := range k.producers {
		if !there.producers[string(p.id)] && !u.gone && u.producer == p {
			b.loseProducerLocked(p)
		}
	}
	for c, u := range k.consumers {
		if !there.consumers[string(c.id)] && !u.gone {
			b.loseConsumerLocked(u, c)
		}
	}
}

// connectedRole says whether a transport's DTLS parameters were given.
func connectedRole(role string) bool { return role == "client" || role == "server" }

// loseProducerLocked tells the channel of a producer that its worker lost, its own
// user included.
func (b *backend) loseProducerLocked(p *producer) {
	closed := b.forgetProducerLocked(p)
	for _, s := range p.user.sessions {
		s.Send(closed)
	}
	b.changedLocked(p.user.channel, changeProducers)
}

// loseConsumerLocked tells one user that it does not hear a producer any more. The
// shipped client drops its consumer, and asks again when it sees the picture.
func (b *backend) loseConsumerLocked(u *user, lost *consumer) {
	if !u.dropConsumerLocked(lost) {
		return // ended meanwhile
	}
	closed := wire.ProducerClosed{ProducerID: lost.producer.id, UserID: lost.producer.user.id}
	for _, s := range u.sessions {
		s.Send(closed)
		if picture := b.inChannelLocked(u.channel); picture != nil {
			s.SendPicture(picture)
		}
	}
}

// strangersLocked are the objects of the dump that nobody knows and no call makes.
func (r *registry) strangersLocked(slot ident.Slot, epoch ident.Epoch, w *workerv1.WorkerDump) []cleanup {
	ids := r.knownOnLocked(slot, epoch).ids()
	strange := func(id string) bool {
		_, making := r.making[id]
		return id != "" && !ids[id] && !making
	}
	var todo []cleanup
	for _, rd := range w.GetRouters() {
		c := cleanup{router: router{id: ident.RouterID(rd.GetId()), slot: slot, epoch: epoch}}
		c.closeAll = strange(rd.GetId())
		for _, t := range rd.GetTransports() {
			if strange(t.GetId()) {
				c.transports = append(c.transports, ident.TransportID(t.GetId()))
				continue
			}
			for _, p := range t.GetProducers() {
				if strange(p.GetId()) {
					c.producers = append(c.producers, ident.ProducerID(p.GetId()))
				}
			}
			for _, consumer := range t.GetConsumers() {
				if strange(consumer.GetId()) {
					c.consumers = append(c.consumers, ident.ConsumerID(consumer.GetId()))
				}
			}
		}
		if !c.empty() {
			todo = append(todo, c)
		}
	}
	return todo
}

// ids are the names of all that is known: no two objects share one.
func (k known) ids() map[string]bool {
	ids := make(map[string]bool, len(k.channels)+len(k.transports)+len(k.producers)+len(k.consumers))
	for r := range k.channels {
		ids[string(r.id)] = true
	}
	for t := range k.transports {
		ids[string(t.id)] = true
	}
	for p := range k.producers {
		ids[string(p.id)] = true
	}
	for c := range k.consumers {
		ids[string(c.id)] = true
	}
	return ids
}
