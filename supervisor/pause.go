package supervisor

import (
	"context"
	"errors"

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
	whole := target.ProducerID == "" && target.ConsumerID == ""
	for _, id := range objects.producers {
		if err := pauseProducer(ctx, client, string(id), paused); err != nil {
			return pauseRefused(err, whole, wire.ErrProducerNotFound)
		}
	}
	for _, id := range objects.consumers {
		err := pauseConsumer(ctx, client, string(id), paused)
		if errors.Is(err, errs.ErrNotFound) && whole {
			continue // its producer ended meanwhile
		}
		if err != nil {
			return pauseRefused(err, whole, wire.ErrConsumerNotFound)
		}
	}
	if paused {
		c.session.Send(wire.Paused{RequestID: c.requestID, Target: target})
	} else {
		c.session.Send(wire.Resumed{RequestID: c.requestID, Target: target})
	}
	return nil
}

// pauseRefused is what the client is told: the object may have ended meanwhile.
func pauseRefused(err error, whole bool, missing func() *wire.Error) error {
	switch {
	case uncertain(err):
		return wire.ErrRouterNotReady()
	case !errors.Is(err, errs.ErrNotFound):
		return err
	case whole:
		return wire.ErrTransportNotFound()
	}
	return missing()
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
		return pausable{}, errSessionClosed
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
