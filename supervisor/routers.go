package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/lapse"
	"github.com/dspeak/sfu/internal/obs"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/signaling/wire"
	"github.com/dspeak/sfu/supervisor/placement"
	"github.com/dspeak/sfu/supervisor/process"
)

// router returns the channel's router, and makes it when there is none: on the
// least loaded worker. One request places a channel, the others wait for it.
func (c *call) router(ctx context.Context) (*user, *router, error) {
	for {
		c.registry.mu.Lock()
		u := c.userLocked()
		if u == nil {
			c.registry.mu.Unlock()
			return nil, nil, errSessionClosed
		}
		ch := u.channel
		if ch.router != nil {
			defer c.registry.mu.Unlock()
			return u, ch.router, nil
		}
		if wait := ch.placing; wait != nil {
			c.registry.mu.Unlock()
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return nil, nil, wire.ErrRouterNotReady()
			}
		}
		ch.placing = make(chan struct{})
		c.registry.mu.Unlock()
		r, err := c.place(ctx, ch, c.eligible(ctx, ch.id))
		if again, err := c.placed(ctx, ch, r, err); !again {
			return nil, nil, err
		}
	}
}

// placed notes where a channel was placed. again: the channel may have a router now.
func (c *call) placed(ctx context.Context, ch *channel, r *router, err error) (again bool, _ error) {
	c.registry.mu.Lock()
	close(ch.placing)
	ch.placing = nil
	if err != nil {
		c.registry.mu.Unlock()
		c.log.Warn("channel not placed", slog.String(obs.KeyChannel, string(ch.id)), obs.Err(err))
		return false, wire.ErrRouterNotReady()
	}
	delete(c.registry.making, string(r.id))
	lives, current := c.registry.channels[ch.id] == ch, c.current(r)
	if lives && current {
		ch.router = r
	}
	c.registry.mu.Unlock()
	switch {
	case !lives: // the channel emptied meanwhile
		c.carryOut(ctx, cleanup{router: *r, closeAll: true})
		return false, errSessionClosed
	case !current: // the worker lost its state, which was told of before; the next may have got the call
		c.reconcileNow(ctx, r.slot)
	}
	return true, nil
}

// loadsLocked are the figures that placement decides by.
func (b *backend) loadsLocked(infos []process.WorkerInfo) []placement.Load {
	channels := map[ident.Slot]int{}
	for _, ch := range b.registry.channels {
		if ch.router != nil {
			channels[ch.router.slot]++
		}
	}
	loads := make([]placement.Load, len(infos))
	for i, w := range infos {
		loads[i] = placement.Load{
			Slot: w.Slot, Serving: serves(w) && !w.Draining, Channels: channels[w.Slot],
			CPUShare: w.Usage.GetCpuShare(), Consumers: w.Usage.GetConsumers(),
		}
	}
	return loads
}

// placeTimeout bounds the attempt on one worker, so that another may be asked.
const placeTimeout = 1500 * time.Millisecond

// current says whether the router's worker still has the state in which it was made.
func (b *backend) current(r *router) bool {
	_, err := b.client(r)
	return err == nil
}

// place makes a router on the least loaded worker that can. It stays noted as being
// made.
func (b *backend) place(ctx context.Context, ch *channel, loads []placement.Load) (*router, error) {
	data, err := ch.appData()
	if err != nil {
		b.log.Warn("channel will not outlive the supervisor", slog.String(obs.KeyChannel, string(ch.id)), obs.Err(err))
	}
	for {
		slot, ok := placement.Choose(loads)
		if !ok || ctx.Err() != nil {
			return nil, fmt.Errorf("no worker serves: %w", errs.ErrUnavailable)
		}
		r, err := b.createRouter(ctx, slot, data)
		if err == nil {
			return r, nil
		}
		b.log.Warn("worker takes no channel", slog.Any(obs.KeySlot, slot), obs.Err(err))
		for i := range loads {
			loads[i].Serving = loads[i].Serving && loads[i].Slot != slot
		}
	}
}

func (b *backend) createRouter(ctx context.Context, slot ident.Slot, data []byte) (_ *router, err error) {
	client, epoch, ok := b.workers.Client(slot)
	if !ok {
		return nil, fmt.Errorf("worker %d: %w", slot, errs.ErrUnavailable)
	}
	r := &router{id: ident.RouterID(ident.NewTimed()), slot: slot, epoch: epoch}
	made := b.registry.make(string(r.id))
	defer func() {
		if err != nil {
			made()
		}
	}()
	short, cancel := lapse.WithTimeout(ctx, placeTimeout)
	defer cancel()
	resp, err := client.CreateRouter(short, &workerv1.CreateRouterRequest{RouterId: string(r.id), AppData: data})
	if err != nil {
		if uncertain(err) {
			b.carryOut(ctx, cleanup{router: *r, closeAll: true})
		}
		return nil, err
	}
	if r.capabilities, err = toJSON(resp.GetRtpCapabilities()); err != nil {
		return nil, err
	}
	return r, nil
}

// serving says whether at least one worker serves.
func (b *backend) serving() bool {
	return slices.ContainsFunc(b.workers.Workers(), serves)
}

// unhealthy says why nobody can join; empty: one can.
func (b *backend) unhealthy() string {
	switch {
	case !b.serving():
		return "no worker serves"
	case !b.addresses.isKnown():
		return b.addresses.missing()
	}
	return ""
}

// alive says that the supervisor moves: it waits for the registry.
func (b *backend) alive() bool {
	b.registry.mu.Lock()
	defer b.registry.mu.Unlock()
	return true
}

// serves says whether calls of a worker are answered, be it a moment later.
func serves(w process.WorkerInfo) bool {
	return w.State == process.StateReady || w.State == process.StateTakeover || w.State == process.StateHung
}

// awaitServing waits until a worker serves, bounded.
func (b *backend) awaitServing(ctx context.Context, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !b.serving() {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
	return true
}
