package supervisor

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/lapse"
	"github.com/dspeak/sfu/internal/obs"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
)

const (
	// rebuildTimeout bounds how long an adopted worker may take to tell its state.
	rebuildTimeout = 2 * time.Second
	// doubt is how long before the end of the former supervisor a consumer must have
	// been made for its client to have learned of it.
	doubt = 2 * time.Second
	// maxIDBytes bounds the id of a worker's object.
	maxIDBytes = 255
)

// adopted is what a worker of a former supervisor says.
type adopted struct {
	slot         ident.Slot
	epoch        ident.Epoch
	dump         *workerv1.WorkerDump
	capabilities json.RawMessage // of its routers
}

// rebuild makes the registry from what the adopted workers say, before the first
// socket. The users have no sockets: their grace runs from now on. It waits for those
// workers no longer than the limit.
func (b *backend) rebuild(ctx context.Context, limit time.Duration) {
	slots := b.adoptions.slots
	if len(slots) == 0 {
		return
	}
	defer close(b.adoptions.built)
	patience, cancel := lapse.WithTimeout(ctx, limit)
	b.adoptions.await(patience)
	cancel()
	workers := make([]*adopted, len(slots))
	var asked sync.WaitGroup
	for i, slot := range slots {
		asked.Go(func() { workers[i] = b.askAdopted(ctx, slot) })
	}
	asked.Wait()
	re := newRebuilder(time.Now(), b.adoptions.alone, b.log)
	for _, w := range workers {
		if w != nil {
			re.worker(w)
		}
	}
	channels, users := b.takeRebuilt(re) //nolint:contextcheck // the users' grace outlasts the start
	b.log.Info("registry rebuilt", slog.Int("workers", len(slots)), slog.Int("channels", channels), slog.Int("users", users))
	for _, c := range re.junk {
		b.carryOut(ctx, c)
	}
	for _, w := range workers {
		if w != nil { // what it told between its dump and now found nobody
			b.reconcileLater(ctx, w.slot, w.epoch)
		}
	}
}

// takeRebuilt makes the rebuilt channels those of the registry, and returns how many
// there are, and how many users in them.
func (b *backend) takeRebuilt(re *rebuilder) (channels, users int) {
	r, now := b.registry, time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.channels = re.finish()
	for _, ch := range r.channels {
		r.ownLocked(ch.router, ch.id, now)
		for _, u := range ch.users {
			b.startGraceLocked(u)
			users++
		}
	}
	r.emptied = re.emptied
	b.rejoinQuarantineLocked(now)
	for _, ch := range r.channels {
		if ch.router != nil && !b.current(ch.router) { // that event came before there were channels
			b.loseRouterLocked(ch, crashedReason)
		}
	}
	return len(r.channels), users
}

// askAdopted asks a worker for its state, nil when it does not tell: then all that it
// has is closed once it does.
func (b *backend) askAdopted(ctx context.Context, slot ident.Slot) *adopted {
	client, epoch, ok := b.workers.Client(slot)
	if !ok {
		return nil
	}
	ctx, cancel := lapse.WithTimeout(ctx, rebuildTimeout)
	defer cancel()
	w := &adopted{slot: slot, epoch: epoch}
	resp, err := client.Dump(ctx, &workerv1.DumpRequest{})
	if w.dump = resp.GetWorker(); err == nil && ident.Epoch(w.dump.GetEpoch()) != epoch {
		err = fmt.Errorf("dump of epoch %d, want %d: %w", w.dump.GetEpoch(), epoch, errs.ErrUnavailable)
	}
	if err == nil {
		w.capabilities, err = toJSON(w.dump.GetRtpCapabilities())
	}
	if err != nil {
		b.log.Error("adopted worker does not tell its state", slog.Any(obs.KeySlot, slot), obs.Err(err))
		return nil
	}
	return w
}

// rebuilder makes channels out of dumps. It believes nothing: a worker of another
// version may say anything. What makes no sense is to be closed.
type rebuilder struct {
	now, alive time.Time
	log        *slog.Logger
	seen       map[string]bool // ids so far
	channels   map[ident.ChannelID]*channel
	emptied    []ident.ChannelID
	junk       []cleanup
}

func newRebuilder(now, alive time.Time, log *slog.Logger) *rebuilder {
	return &rebuilder{now: now, alive: alive, log: log, seen: map[string]bool{}, channels: map[ident.ChannelID]*channel{}}
}

// fresh says whether an id may be one, and is nobody else's.
func (re *rebuilder) fresh(id string) bool {
	if id == "" || len(id) > maxIDBytes || re.seen[id] {
		return false
	}
	re.seen[id] = true
	return true
}

// when is a time of app data, in nanoseconds.
func (re *rebuilder) when(ns int64) time.Time {
	t := time.Unix(0, ns)
	if ns <= 0 || t.After(re.now) {
		return re.now
	}
	return t
}

func (re *rebuilder) worker(w *adopted) {
	for _, rd := range w.dump.GetRouters() {
		if !re.fresh(rd.GetId()) {
			re.log.Warn("router without a usable id left alone", slog.Any(obs.KeySlot, w.slot))
			continue
		}
		r := &router{id: ident.RouterID(rd.GetId()), slot: w.slot, epoch: w.epoch, capabilities: w.capabilities}
		data, err := decodeRouterData(rd.GetAppData())
		if err != nil {
			re.log.Warn("router closed: nobody knows whose it is", slog.Any(obs.KeySlot, w.slot), slog.String(obs.KeyRouter, string(r.id)), obs.Err(err))
			re.junk = append(re.junk, cleanup{router: *r, closeAll: true})
			continue
		}
		re.router(&channel{id: data.ChannelID, created: re.when(data.Created), router: r}, rd)
	}
}

// router adds a channel, and decides when two routers claim the same one.
func (re *rebuilder) router(ch *channel, rd *workerv1.RouterDump) {
	part := &rebuiltChannel{rebuilder: re, channel: ch, todo: cleanup{router: *ch.router}}
	part.transports(rd)
	part.producers()
	part.consumers()
	loser := ch
	switch other := re.channels[ch.id]; {
	case len(ch.users) == 0:
		re.emptied = append(re.emptied, ch.id)
	case other == nil || newer(ch, other):
		re.channels[ch.id], loser = ch, other
	}
	if !part.todo.empty() {
		re.junk = append(re.junk, part.todo)
	}
	if loser != nil {
		re.junk = append(re.junk, cleanup{router: *loser.router, closeAll: true})
	}
}

// newer says which of two routers is the channel's: it has one at a time, so the last
// that was made.
func newer(a, b *channel) bool { return madeAt(string(a.router.id)).After(madeAt(string(b.router.id))) }

// finish returns the channels.
func (re *rebuilder) finish() map[ident.ChannelID]*channel {
	re.emptied = slices.DeleteFunc(re.emptied, func(id ident.ChannelID) bool { return re.channels[id] != nil })
	return re.channels
}

// rebuiltChannel is a channel that is being made out of a router's dump.
type rebuiltChannel struct {
	*rebuilder
	channel *channel
	parts   []*rebuiltTransport // in the order of creation
	todo    cleanup
}

type rebuiltTransport struct {
	transport *transport
	user      *user
	data      transportData
	dump      *workerv1.TransportDump
}

// transports makes the users and their transports.
func (re *rebuiltChannel) transports(rd *workerv1.RouterDump) {
	for _, d := range rd.GetTransports() {
		if !re.fresh(d.GetId()) {
			continue // of an id that is somebody else's: it is not known which
		}
		id := ident.TransportID(d.GetId())
		data, err := decodeTransportData(d.GetAppData())
		if err != nil {
			re.log.Warn("transport closed: nobody knows whose it is", slog.String(obs.KeyTransport, string(id)), obs.Err(err))
			re.todo.transports = append(re.todo.transports, id)
			continue
		}
		re.parts = append(re.parts, &rebuiltTransport{
			transport: &transport{
				id: id, created: re.when(data.Created), connected: connectedRole(d.GetDtlsLocalRole()),
				consuming: map[ident.ProducerID]*producer{},
			},
			data: data, dump: d,
		})
	}
	slices.SortFunc(re.parts, func(a, b *rebuiltTransport) int {
		return cmp.Or(a.transport.created.Compare(b.transport.created), cmp.Compare(a.transport.id, b.transport.id))
	})
	re.parts = slices.DeleteFunc(re.parts, func(p *rebuiltTransport) bool { return !re.user(p) })
	slices.SortFunc(re.channel.users, func(a, b *user) int {
		return cmp.Or(a.joined.Compare(b.joined), cmp.Compare(a.id, b.id))
	})
}

// user gives a transport to its user; false: there are too many.
func (re *rebuiltChannel) user(p *rebuiltTransport) bool {
	u := re.channel.user(p.data.UserID)
	if u == nil {
		u = &user{id: p.data.UserID, channel: re.channel, joined: re.when(p.data.Joined)}
		re.channel.addUser(u)
	}
	if len(u.transports) >= maxTransports {
		re.todo.transports = append(re.todo.transports, p.transport.id)
		return false
	}
	u.transports = append(u.transports, p.transport)
	p.user, p.transport.told = u, p.data.capabilities()
	if p.transport.told != nil {
		u.capabilities = p.transport.told
	}
	return true
}

// producers gives each user its newest producer.
func (re *rebuiltChannel) producers() {
	for _, p := range re.parts {
		for _, d := range p.dump.GetProducers() {
			id := ident.ProducerID(d.GetId())
			if !re.fresh(d.GetId()) {
				continue
			}
			if former := p.user.producer; former != nil {
				if madeAt(string(id)).Before(madeAt(string(former.id))) {
					re.todo.producers = append(re.todo.producers, id)
					continue
				}
				re.todo.producers = append(re.todo.producers, former.id)
			}
			p.user.producer = &producer{id: id, user: p.user, transport: p.transport}
		}
	}
	ch := re.channel
	for _, u := range ch.users {
		if u.producer != nil {
			ch.addProducer(u.producer)
		}
	}
	slices.SortStableFunc(ch.producers, func(a, b *producer) int { return madeAt(string(a.id)).Compare(madeAt(string(b.id))) })
}

// madeAt is when an object was made, the zero time for another kind of id.
func madeAt(id string) time.Time {
	t, _ := ident.TimeOf(id)
	return t
}

// consumers takes one consumer for a transport and a producer.
func (re *rebuiltChannel) consumers() {
	for _, p := range re.parts {
		for _, d := range p.dump.GetConsumers() {
			if !re.fresh(d.GetId()) {
				continue
			}
			c := &consumer{
				id: ident.ConsumerID(d.GetId()), producer: re.channel.producer(ident.ProducerID(d.GetProducerId())), transport: p.transport,
				doubtful: madeAt(d.GetId()).After(re.alive.Add(-doubt)),
			}
			if c.producer == nil || p.transport.consuming[c.producer.id] != nil || len(p.user.consumers) >= maxConsumers {
				re.todo.consumers = append(re.todo.consumers, c.id)
				continue
			}
			p.transport.reserve(c.producer, p.user)
			p.user.consumers = append(p.user.consumers, c)
		}
	}
}
