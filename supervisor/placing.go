package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/lapse"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/signaling/wire"
	"github.com/dspeak/sfu/supervisor/placement"
	"github.com/dspeak/sfu/supervisor/process"
)

const (
	// placeTimeout bounds the attempt on one worker, so that another may be asked within
	// the request's time. It outlasts a takeover on a busy machine: if all channels that
	// wait for one went elsewhere, the successor would have none.
	placeTimeout = 2400 * time.Millisecond
	// wakeTimeout bounds the wait for a worker that was just woken.
	wakeTimeout = 3 * time.Second
	// wakePoll is how often a worker that was just woken is looked at.
	wakePoll = 10 * time.Millisecond
	// returnTime is how long a channel that lost its worker counts with the consumers
	// that it had: its clients make them anew.
	returnTime = 15 * time.Second
)

// placing is an attempt to place a channel. The registry's lock guards it.
type placing struct {
	// over is closed at its end.
	over chan struct{}
	// router is the one that is being made, without its capabilities; nil: no worker is
	// chosen.
	router *router
}

// router returns the channel's router, and makes it when there is none: on the least
// loaded worker. One request places a channel, the others wait for it.
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
		if p := ch.placing; p != nil {
			c.registry.mu.Unlock()
			select {
			case <-p.over:
				continue
			case <-ctx.Done():
				return nil, nil, wire.ErrRouterNotReady()
			}
		}
		ch.placing = &placing{over: make(chan struct{})}
		c.registry.mu.Unlock()
		r, err := c.place(ctx, ch)
		if again, err := c.placed(ctx, ch, r, err); !again {
			return nil, nil, err
		}
	}
}

// placed ends an attempt. What was decided may have become wrong meanwhile, so that is
// looked at once more. Again reports whether the channel may have a router now.
func (c *call) placed(ctx context.Context, ch *channel, r *router, err error) (again bool, _ error) {
	c.registry.mu.Lock()
	close(ch.placing.over)
	ch.placing = nil
	if err != nil {
		c.registry.mu.Unlock()
		c.log.Warn("channel not placed", slog.String(obs.KeyChannel, string(ch.id)), obs.Err(err))
		return false, wire.ErrRouterNotReady()
	}
	delete(c.registry.making, string(r.id))
	lives, current, allowed := c.registry.channels[ch.id] == ch, c.current(r), c.allowedLocked(ch.id, r.slot)
	if lives && current && allowed {
		ch.router = r
	}
	c.registry.mu.Unlock()
	switch {
	case !lives: // the channel emptied meanwhile
		c.carryOut(ctx, cleanup{router: *r, closeAll: true})
		return false, errSessionClosed
	case !current: // the worker lost its state, which was told of before; the next may have got the call
		c.reconcileNow(ctx, r.slot)
	case !allowed: // the channel was condemned, or the worker is drained
		c.carryOut(ctx, cleanup{router: *r, closeAll: true})
	}
	return true, nil
}

// current reports whether the router's worker still has the state in which it was made.
func (b *backend) current(r *router) bool {
	_, err := b.client(r)
	return err == nil
}

// place makes a router on the least loaded worker that can. It stays noted as being
// made.
func (b *backend) place(ctx context.Context, ch *channel) (*router, error) {
	data, err := ch.appData()
	if err != nil {
		b.log.Warn("channel will not outlive the supervisor", slog.String(obs.KeyChannel, string(ch.id)), obs.Err(err))
	}
	refused := map[ident.Slot]bool{}
	for {
		r, err := b.decide(ctx, ch, refused)
		if err != nil {
			return nil, err
		}
		err = b.createRouter(ctx, r, data)
		if err == nil {
			return r, nil
		}
		b.log.Warn("worker takes no channel", slog.Any(obs.KeySlot, r.slot), obs.Err(err))
		refused[r.slot] = true
	}
}

// decide chooses a worker for the channel, of those that have not refused it. The
// worker of the quarantine may just have been woken: it is waited for.
func (b *backend) decide(ctx context.Context, ch *channel, refused map[ident.Slot]bool) (*router, error) {
	patience, cancel := lapse.WithTimeout(ctx, wakeTimeout)
	defer cancel()
	ticker := time.NewTicker(wakePoll)
	defer ticker.Stop()
	for {
		r, wait := b.decideNow(ch, refused)
		if r != nil && ctx.Err() == nil {
			return r, nil
		}
		if !wait || patience.Err() != nil {
			b.undecide(ch)
			return nil, fmt.Errorf("no worker serves: %w", errs.ErrUnavailable)
		}
		select {
		case <-ticker.C:
		case <-patience.Done():
		}
	}
}

// decideNow chooses a worker and counts the channel there, in one step: the next
// decision knows of this one. Without a worker it reports whether to wait for one.
func (b *backend) decideNow(ch *channel, refused map[ident.Slot]bool) (_ *router, wait bool) {
	reg := b.registry
	reg.mu.Lock()
	defer reg.mu.Unlock()
	b.undecideLocked(ch)
	infos := b.workers.Workers()
	loads := b.loadsLocked(infos)
	for i, w := range infos {
		may := !refused[w.Slot] && reg.admitsLocked(ch.id, w)
		loads[i].Serving = loads[i].Serving && may
		wait = wait || (may && w.Reserve && !serves(w))
	}
	slot, ok := placement.Choose(loads)
	if !ok {
		return nil, wait
	}
	r := &router{id: ident.RouterID(ident.NewTimed()), slot: slot}
	for _, w := range infos {
		if w.Slot == slot {
			r.epoch = w.Epoch
		}
	}
	ch.placing.router, ch.placed = r, time.Now()
	reg.making[string(r.id)] = struct{}{}
	reg.ownLocked(r, ch.id, ch.placed)
	return r, false
}

// undecide takes a decision back.
func (b *backend) undecide(ch *channel) {
	b.registry.mu.Lock()
	defer b.registry.mu.Unlock()
	b.undecideLocked(ch)
}

func (b *backend) undecideLocked(ch *channel) {
	if former := ch.placing.router; former != nil {
		delete(b.registry.making, string(former.id))
		ch.placing.router = nil
	}
}

// loadsLocked is what placement decides by, in the order of infos. A channel counts
// from the decision to place it.
func (b *backend) loadsLocked(infos []process.WorkerInfo) []placement.Load {
	loads, bySlot := make([]placement.Load, len(infos)), make(map[ident.Slot]int, len(infos))
	for i, w := range infos {
		loads[i] = placement.Load{Slot: w.Slot, Serving: serves(w) && !w.Draining, CPUShare: w.Load.Share}
		bySlot[w.Slot] = i
	}
	now := time.Now()
	for _, ch := range b.registry.channels {
		r := ch.router
		if r == nil && ch.placing != nil {
			r = ch.placing.router
		}
		if r == nil {
			continue
		}
		if i, ok := bySlot[r.slot]; ok && infos[i].Epoch == r.epoch { // else it was lost
			loads[i].Add(ch.weightLocked(now), ch.placed.After(infos[i].Load.Since))
		}
	}
	return loads
}

// weightLocked is how many consumers the channel has, or is about to have.
func (ch *channel) weightLocked(now time.Time) int {
	consumers := 0
	for _, u := range ch.users {
		consumers += len(u.consumers)
	}
	if now.Sub(ch.placed) < returnTime {
		consumers = max(consumers, ch.carried)
	}
	return max(consumers, len(ch.users)-1) // they listen to one at least
}
