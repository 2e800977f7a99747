package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/errs/status"
	"github.com/dspeak/sfu/internal/ident"
	interopwire "github.com/dspeak/sfu/interop/wire"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/signaling/wire"
)

func (c *call) produce(ctx context.Context, data wire.Produce) error {
	u, t, r, err := c.sendTransport(data.TransportID)
	if err != nil {
		return err
	}
	if data.Fault != nil {
		return data.Fault
	}
	var params workerv1.RtpParameters
	if err := fromJSON(data.RtpParameters, &params); err != nil {
		return wire.ErrProduceFailed(err)
	}
	client, err := c.client(r)
	if err != nil {
		return wire.ErrProduceFailed(err)
	}
	id := ident.ProducerID(ident.NewTimed())
	defer c.registry.make(string(id))()
	_, err = client.Produce(ctx, &workerv1.ProduceRequest{
		TransportId: string(t.id), ProducerId: string(id), Kind: data.Kind, RtpParameters: &params,
	})
	if err != nil {
		if uncertain(err) {
			c.carryOut(ctx, cleanup{router: *r, producers: []ident.ProducerID{id}})
		}
		return wire.ErrProduceFailed(status.Remote(err))
	}
	return c.commitProducer(ctx, &producer{id: id, user: u, transport: t, session: c.session}, r, data)
}

// sendTransport finds where to produce: the transport with the id, or the first.
func (c *call) sendTransport(id ident.TransportID) (*user, *transport, *router, error) {
	c.registry.mu.Lock()
	defer c.registry.mu.Unlock()
	u := c.userLocked()
	if u == nil {
		return nil, nil, nil, errSessionClosed
	}
	t := u.transport(id)
	if candidates := u.candidates(c.session); id == "" && len(candidates) > 0 {
		t = candidates[0]
	}
	if t == nil {
		return nil, nil, nil, wire.ErrTransportNotFound()
	}
	return u, t, u.channel.router, nil
}

// commitProducer makes a producer known: one user has one, so it ends the former.
func (c *call) commitProducer(ctx context.Context, p *producer, r *router, data wire.Produce) error {
	c.registry.mu.Lock()
	u := p.user
	ch := u.channel
	if u.gone || ch.router != r || u.transport(p.transport.id) != p.transport {
		gone := u.gone
		c.registry.mu.Unlock()
		c.carryOut(ctx, cleanup{router: *r, producers: []ident.ProducerID{p.id}})
		if gone {
			return errSessionClosed
		}
		return wire.ErrTransportNotFound()
	}
	todo := cleanup{router: *r}
	c.session.Send(wire.ProducerIDMessage{RequestID: c.requestID, ID: p.id, UserID: u.id, ChannelID: ch.id})
	if former := u.producer; former != nil {
		todo.producers = append(todo.producers, former.id)
		c.endProducerLocked(former, c.session)
	}
	u.producer = p
	ch.addProducer(p)
	c.changedLocked(ch, changeProduce)
	c.broadcastLocked(ch, u, wire.NewProducer{ProducerID: p.id, UserID: u.id})
	c.session.Send(wire.Produced{RequestID: c.requestID, Data: wire.ProducedData{
		ID: p.id, UserID: u.id, ChannelID: ch.id, Kind: data.Kind, RtpParameters: data.RtpParameters,
	}})
	c.tellPresenceLocked(interopwire.EventStartProduce, u, "")
	c.presence.Send(interopwire.MediaProducer{
		Event: interopwire.EventAdd, UserID: u.id, ChannelID: ch.id, ProducerID: p.id, Time: time.Now(),
	})
	c.registry.mu.Unlock()
	c.carryOut(ctx, todo)
	return nil
}

// consumption is a consume request that may go to the worker.
type consumption struct {
	user         *user
	router       *router
	transport    *transport
	producer     *producer
	capabilities *workerv1.RtpCapabilities
	// replaces is a consumer of which the client may not know, "" for none.
	replaces ident.ConsumerID
}

func (c *call) consume(ctx context.Context, data wire.Consume) error {
	plan, err := c.planConsume(data)
	if err != nil {
		return err
	}
	id := ident.ConsumerID(ident.NewTimed())
	defer c.registry.make(string(id))()
	resp, err := c.consumeOnWorker(ctx, plan, id)
	var params json.RawMessage
	if err == nil {
		params, err = toJSON(resp.GetRtpParameters())
	}
	if err == nil && c.ended() {
		err = errSessionClosed
		c.undoConsume(ctx, plan, id)
	}
	c.registry.mu.Lock()
	defer c.registry.mu.Unlock()
	if err != nil {
		plan.transport.release(plan.producer)
		return err
	}
	u := plan.user
	if u.gone || u.channel.producer(plan.producer.id) != plan.producer || u.transport(plan.transport.id) != plan.transport {
		return wire.ErrConsumeNotFound() // the worker closed the consumer with its producer or transport
	}
	u.consumers = append(u.consumers, &consumer{id: id, producer: plan.producer, transport: plan.transport})
	c.session.Send(wire.ConsumerParams{RequestID: c.requestID, Data: wire.ConsumerParamsData{
		ID: id, ProducerID: plan.producer.id, Kind: resp.GetKind(), RtpParameters: params, UserID: plan.producer.user.id,
	}})
	return nil
}

// undoConsume closes a consumer of which the client does not learn. The producer
// stays reserved meanwhile: a transport carries it once.
func (c *call) undoConsume(ctx context.Context, plan consumption, id ident.ConsumerID) {
	c.cleanUp(context.WithoutCancel(ctx), &cleanup{router: *plan.router, consumers: []ident.ConsumerID{id}})
}

// planConsume finds everything that a consume request means and reserves it.
func (c *call) planConsume(data wire.Consume) (consumption, error) {
	var plan consumption
	if data.RtpCapabilities != nil {
		var err error
		if plan.capabilities, err = capabilitiesFrom(data.RtpCapabilities); err != nil {
			return plan, wire.ErrConsumeMismatch()
		}
	}
	c.registry.mu.Lock()
	defer c.registry.mu.Unlock()
	u := c.userLocked()
	if u == nil {
		return plan, errSessionClosed
	}
	plan.user, plan.router = u, u.channel.router
	if plan.transport = c.recvTransportLocked(u, data.TransportID); plan.transport == nil {
		return plan, wire.ErrTransportNotFound()
	}
	if data.ProducerID == "" {
		if plan.producer = u.unheardLocked(); plan.producer == nil {
			return plan, wire.ErrNoProducer()
		}
	} else if plan.producer = u.channel.producer(data.ProducerID); plan.producer == nil {
		return plan, wire.ErrConsumeNotFound()
	}
	if plan.capabilities == nil {
		plan.capabilities = u.capabilities
	}
	plan.replaces = u.doubtfulLocked(plan.transport, plan.producer)
	switch {
	case plan.capabilities == nil:
		return plan, wire.ErrConsumeNoCapabilities()
	case plan.replaces != "":
		u.consumers = slices.DeleteFunc(u.consumers, func(c *consumer) bool { return c.id == plan.replaces })
	case plan.transport.consuming[plan.producer.id] != nil:
		return plan, wire.ErrAlreadyConsuming()
	case len(u.consumers) >= maxConsumers:
		return plan, wire.ErrLimit("consumers")
	}
	plan.transport.reserve(plan.producer, u)
	return plan, nil
}

// doubtfulLocked is the doubtful consumer of the producer on the transport, "" for none.
func (u *user) doubtfulLocked(t *transport, p *producer) ident.ConsumerID {
	for _, c := range u.consumers {
		if c.doubtful && c.transport == t && c.producer == p {
			return c.id
		}
	}
	return ""
}

// recvTransportLocked is the transport with the id, or the newest connected one,
// or the newest.
func (c *call) recvTransportLocked(u *user, id ident.TransportID) *transport {
	if id != "" {
		return u.transport(id)
	}
	candidates := u.candidates(c.session)
	for _, t := range slices.Backward(candidates) {
		if t.connected {
			return t
		}
	}
	if len(candidates) == 0 {
		return nil
	}
	return candidates[len(candidates)-1]
}

// unheardLocked is a producer of another user that this user does not consume yet.
func (u *user) unheardLocked() *producer {
	for _, p := range u.channel.producers {
		heard := slices.ContainsFunc(u.transports, func(t *transport) bool { return t.consuming[p.id] != nil })
		if p.user != u && !heard {
			return p
		}
	}
	return nil
}

func (c *call) consumeOnWorker(ctx context.Context, plan consumption, id ident.ConsumerID) (*workerv1.ConsumeResponse, error) {
	client, err := c.client(plan.router)
	if err != nil {
		return nil, wire.ErrConsumeFailed(err)
	}
	if plan.replaces != "" {
		c.undoConsume(ctx, plan, plan.replaces)
	}
	resp, err := client.Consume(ctx, &workerv1.ConsumeRequest{
		TransportId: string(plan.transport.id), ConsumerId: string(id), ProducerId: string(plan.producer.id),
		RtpCapabilities: plan.capabilities,
	})
	switch {
	case err == nil:
		return resp, nil
	case errors.Is(err, errs.ErrUnsupported), errors.Is(err, errs.ErrInvalid):
		return nil, wire.ErrConsumeMismatch()
	case errors.Is(err, errs.ErrNotFound):
		return nil, wire.ErrConsumeNotFound()
	case uncertain(err):
		c.undoConsume(ctx, plan, id)
	}
	return nil, wire.ErrConsumeFailed(status.Remote(err))
}

func (c *call) closeProducer(ctx context.Context, data wire.CloseProducer) error {
	c.registry.mu.Lock()
	u := c.userLocked()
	if u == nil {
		c.registry.mu.Unlock()
		return errSessionClosed
	}
	p := u.producer
	if p == nil || p.id != data.ProducerID {
		c.registry.mu.Unlock()
		return wire.ErrProducerNotFound()
	}
	todo := cleanup{producers: []ident.ProducerID{p.id}}
	if r := u.channel.router; r != nil {
		todo.router = *r
	}
	c.endProducerLocked(p, c.session)
	c.session.Send(wire.ProducerClosed{RequestID: c.requestID, ProducerID: p.id, UserID: u.id})
	c.changedLocked(u.channel, changeProducers)
	c.registry.mu.Unlock()
	c.carryOut(ctx, todo)
	return nil
}
