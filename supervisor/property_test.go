package supervisor

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/supervisor/process"
)

// chaos does random things to a lab: requests of several users, workers whose
// processes die in the middle of calls, takeovers that lose something, and workers
// that lose everything.
type chaos struct {
	*lab

	rng     *rand.Rand
	users   []*chaosUser
	resumes map[ident.Slot]func() // ends an interruption

	mu     sync.Mutex
	deaths *rand.Rand // guarded by mu
}

type chaosUser struct {
	name, channel string
	socket        *socket
}

// TestRegistryAgrees: whatever happens, in the end the registry has what the workers
// have, and no transport carries a producer twice.
func TestRegistryAgrees(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := &chaos{
				lab: newLab(t, 2), rng: rand.New(rand.NewPCG(seed, 1)), deaths: rand.New(rand.NewPCG(seed, 2)),
				resumes: map[ident.Slot]func(){},
			}
			for i := range 6 {
				u := &chaosUser{name: fmt.Sprint("user-", i), channel: fmt.Sprint("channel-", i%3)}
				u.socket = c.join(u.name, u.channel)
				c.users = append(c.users, u)
			}
			for _, w := range c.workers {
				w.hooks(c.die, c.die)
			}
			for range 8 {
				for range 50 {
					c.step()
				}
				c.settle()
			}
		})
	}
}

// die loses a call, or its answer, now and then.
func (c *chaos) die(_ context.Context, call string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deaths.IntN(12) == 0 {
		return fmt.Errorf("%s: process died: %w", call, errs.ErrUnavailable)
	}
	return nil
}

func (c *chaos) step() {
	slot := ident.Slot(c.rng.IntN(2))
	switch n := c.rng.IntN(100); {
	case n < 78:
		c.request(c.users[c.rng.IntN(len(c.users))])
	case n < 84:
		if resume := c.resumes[slot]; resume != nil {
			resume()
		}
		c.resumes[slot] = c.pool.interrupt(slot)
	case n < 94:
		c.takeover(slot)
	case n < 97:
		u := c.users[c.rng.IntN(len(c.users))]
		_ = u.socket.conn.Close()
		u.socket = c.join(u.name, u.channel)
	case n < 98:
		c.resume()
		c.crash(slot)
		c.recover(slot)
	default:
		u := c.users[c.rng.IntN(len(c.users))]
		c.backend.cooldown = 0
		c.backend.kick(c.t.Context(), ident.UserID(u.name), ident.ChannelID(u.channel), "")
		_ = u.socket.conn.Close()
		u.socket = c.join(u.name, u.channel)
	}
}

// takeover has another process go on, which lost something or has something that
// nobody knows.
func (c *chaos) takeover(slot ident.Slot) {
	w := c.workers[slot]
	w.mu.Lock()
	if c.rng.IntN(3) == 0 {
		if id := pick(c.rng, w.transports); id != "" {
			w.dropTransport(id)
		}
	}
	if c.rng.IntN(3) == 0 {
		if id := pick(c.rng, w.producers); id != "" {
			w.dropProducer(id)
		}
	}
	if on := pick(c.rng, w.routers); on != "" && c.rng.IntN(3) == 0 {
		w.transports[ident.New()] = on
	}
	if c.rng.IntN(3) == 0 {
		w.routers[ident.New()] = true
	}
	w.mu.Unlock()
	var now process.WorkerInfo
	c.pool.change(slot, func(w *process.WorkerInfo) {
		w.Generation++
		now = *w
	})
	c.events(process.Event{
		Kind: process.EventTakeover, Slot: slot, Generation: now.Generation, Epoch: now.Epoch, Cause: "signal: killed",
		Resumed: handoff.Resumed{},
	})
}

// pick is a random key, "" of an empty map.
func pick[T any](rng *rand.Rand, from map[string]T) string {
	keys := slices.Sorted(maps.Keys(from))
	if len(keys) == 0 {
		return ""
	}
	return keys[rng.IntN(len(keys))]
}

// request says something for which there is a chance that it makes sense.
func (c *chaos) request(u *chaosUser) {
	own, producers, producer := c.known(u)
	one := func(ids []string) string {
		if len(ids) == 0 {
			return "nothing"
		}
		return ids[c.rng.IntN(len(ids))]
	}
	switch c.rng.IntN(10) {
	case 0, 1:
		u.socket.say("create-transport", "")
	case 2:
		u.socket.say("connect-transport", fmt.Sprintf(`{"transportId":%q,"dtlsParameters":%s}`, one(own), fingerprints))
	case 3, 4:
		u.socket.say("produce", fmt.Sprintf(`{"kind":"audio","transportId":%q,"rtpParameters":%s}`, one(own), rtp))
	case 5, 6, 7:
		u.socket.say("consume", fmt.Sprintf(`{"producerId":%q,"transportId":%q,"rtpCapabilities":%s}`, one(producers), one(own), caps))
	case 8:
		u.socket.say("pause", fmt.Sprintf(`{"transportId":%q}`, one(own)))
	default:
		if c.rng.IntN(2) == 0 {
			u.socket.say("close-producer", fmt.Sprintf(`{"producerId":%q}`, producer))
		} else {
			u.socket.say("close-transport", fmt.Sprintf(`{"transportId":%q}`, one(own)))
		}
	}
}

// known are the user's transports, the channel's producers and the user's producer.
func (c *chaos) known(u *chaosUser) (own, producers []string, producer string) {
	r := c.backend.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	ch := r.channels[ident.ChannelID(u.channel)]
	if ch == nil || ch.user(ident.UserID(u.name)) == nil {
		return nil, nil, ""
	}
	for _, t := range ch.user(ident.UserID(u.name)).transports {
		own = append(own, string(t.id))
	}
	for _, p := range ch.producers {
		producers = append(producers, string(p.id))
		if string(p.user.id) == u.name {
			producer = string(p.id)
		}
	}
	return own, producers, producer
}

func (c *chaos) resume() {
	for slot, resume := range c.resumes {
		resume()
		delete(c.resumes, slot)
	}
}

// settle waits for all answers, has every worker compared once more, and looks.
func (c *chaos) settle() {
	c.t.Helper()
	c.resume()
	for _, u := range c.users {
		u.socket.drain()
	}
	for slot := range c.workers {
		c.takenOver(ident.Slot(slot), process.CauseRestart, 0)
		c.backend.background.Wait()
		c.agrees(ident.Slot(slot))
	}
	r := c.backend.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ch := range r.channels {
		for _, u := range ch.users {
			u.checkMarksLocked(c.t)
		}
	}
}

// checkMarksLocked: what is marked as consumed is consumed, once, and its producer
// knows it.
func (u *user) checkMarksLocked(t *testing.T) {
	t.Helper()
	marks := map[*transport]map[ident.ProducerID]*producer{}
	for _, consumer := range u.consumers {
		on, p := consumer.transport, consumer.producer
		if marks[on] == nil {
			marks[on] = map[ident.ProducerID]*producer{}
		}
		if marks[on][p.id] != nil {
			t.Errorf("%s hears %s twice", u.id, p.id)
		}
		marks[on][p.id] = p
		if p.hearers[on] != u {
			t.Errorf("%s hears %s, which does not know", u.id, p.id)
		}
	}
	for _, on := range u.transports {
		if !maps.Equal(on.consuming, marks[on]) {
			t.Errorf("%s is marked as consuming %v, and consumes %v", u.id, on.consuming, marks[on])
		}
	}
	if u.producer == nil {
		return
	}
	for on, hearer := range u.producer.hearers {
		if hearer.gone || hearer.transport(on.id) != on || on.consuming[u.producer.id] != u.producer {
			t.Errorf("%s is said to hear %s", hearer.id, u.producer.id)
		}
	}
}
