package supervisor

import (
	"context"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/signaling/wire"
)

// pausable are the objects that a pause or resume means.
type pausable struct {
	router    *router
	producers []ident.ProducerID
	consumers []ident.ConsumerID
}

// setPaused pauses or resumes one producer or consumer, or all of a transport.
func (c *call) setPaused(ctx context.Context, target wire.Target, paused bool) error {
	objects, err := c.find(target)
	if err != nil {
		return err
	}
	client, err := c.client(objects.router)
	if err != nil {
		return wire.ErrRouterNotReady()
	}
	for _, id := range objects.producers {
		if err := pauseProducer(ctx, client, string(id), paused); err != nil {
			return err
		}
	}
	for _, id := range objects.consumers {
		if err := pauseConsumer(ctx, client, string(id), paused); err != nil {
			return err
		}
	}
	if paused {
		c.session.Send(wire.Paused{RequestID: c.requestID, Target: target})
	} else {
		c.session.Send(wire.Resumed{RequestID: c.requestID, Target: target})
	}
	return nil
}

func pauseProducer(ctx context.Context, client workerv1.WorkerServiceClient, id string, paused bool) error {
	var err error
	if paused {
		_, err = client.PauseProducer(ctx, &workerv1.PauseProducerRequest{ProducerId: id})
	} else {
		_, err = client.ResumeProducer(ctx, &workerv1.ResumeProducerRequest{ProducerId: id})
	}
	return err
}

func pauseConsumer(ctx context.Context, client workerv1.WorkerServiceClient, id string, paused bool) error {
	var err error
	if paused {
		_, err = client.PauseConsumer(ctx, &workerv1.PauseConsumerRequest{ConsumerId: id})
	} else {
		_, err = client.ResumeConsumer(ctx, &workerv1.ResumeConsumerRequest{ConsumerId: id})
	}
	return err
}

// find returns what the target names, if it is this user's.
func (c *call) find(target wire.Target) (pausable, error) {
	c.registry.mu.Lock()
	defer c.registry.mu.Unlock()
	u := c.userLocked()
	if u == nil {
		return pausable{}, errs.ErrClosed
	}
	found := pausable{router: u.channel.router}
	switch {
	case target.ProducerID != "":
		if u.producer == nil || u.producer.id != target.ProducerID {
			return found, wire.ErrProducerNotFound()
		}
		found.producers = []ident.ProducerID{target.ProducerID}
	case target.ConsumerID != "":
		for _, consumer := range u.consumers {
			if consumer.id == target.ConsumerID {
				found.consumers = []ident.ConsumerID{consumer.id}
				return found, nil
			}
		}
		return found, wire.ErrConsumerNotFound()
	default:
		t := u.transport(target.TransportID)
		if t == nil {
			return found, wire.ErrTransportNotFound()
		}
		if u.producer != nil && u.producer.transport == t {
			found.producers = []ident.ProducerID{u.producer.id}
		}
		for _, consumer := range u.consumers {
			if consumer.transport == t {
				found.consumers = append(found.consumers, consumer.id)
			}
		}
	}
	return found, nil
}
