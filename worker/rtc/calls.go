package rtc

import (
	"context"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/worker/ortc"
)

// onLoop runs fn on the loop and returns its result.
func onLoop[T any](ctx context.Context, l *Loop, fn func() (T, error)) (T, error) {
	var (
		result T
		err    error
	)
	if callErr := l.mail.do(ctx, func() { result, err = fn() }); callErr != nil {
		var zero T
		return zero, callErr
	}
	return result, err
}

// act is onLoop for calls without a result.
func act(ctx context.Context, l *Loop, fn func() error) error {
	var err error
	if callErr := l.mail.do(ctx, func() { err = fn() }); callErr != nil {
		return callErr
	}
	return err
}

// CreateRouter makes a router and returns what it can receive and send. Errors:
// ErrInvalid (no id), ErrExists, ErrExhausted, ErrClosed or the context's. As for
// all calls below: any goroutine; when ctx ends before the loop reached the call,
// nothing is done.
func (l *Loop) CreateRouter(ctx context.Context, id ident.RouterID) (ortc.RtpCapabilities, error) {
	return onLoop(ctx, l, func() (ortc.RtpCapabilities, error) { return l.createRouter(id) })
}

// CloseRouter closes a router with all that it holds. Errors: ErrNotFound.
func (l *Loop) CloseRouter(ctx context.Context, id ident.RouterID) error {
	return act(ctx, l, func() error { return l.closeRouter(id) })
}

// CreateTransport makes an ICE-lite transport in a router. Errors: ErrNotFound (the
// router), ErrExists, ErrInvalid (no id, no announced address of the family),
// ErrExhausted.
func (l *Loop) CreateTransport(ctx context.Context, p CreateTransportParams) (TransportInfo, error) {
	return onLoop(ctx, l, func() (TransportInfo, error) { return l.createTransport(p) })
}

// ConnectTransport gives a transport the remote DTLS parameters, once, and returns
// the worker's own role, "client" or "server". Errors: ErrNotFound, ErrExists (it
// is connected already), ErrInvalid.
func (l *Loop) ConnectTransport(ctx context.Context, id ident.TransportID, p DtlsParameters) (string, error) {
	return onLoop(ctx, l, func() (string, error) { return l.connectTransport(id, p) })
}

// CloseTransport closes a transport with its producers and consumers. No event
// follows. Errors: ErrNotFound.
func (l *Loop) CloseTransport(ctx context.Context, id ident.TransportID) error {
	return act(ctx, l, func() error { return l.closeTransportCall(id) })
}

// Produce makes a producer on a transport and returns its consumable parameters.
// Errors: ErrNotFound, ErrExists (id, SSRC or mid in use), ErrInvalid,
// ErrUnsupported, ErrExhausted.
func (l *Loop) Produce(ctx context.Context, p ProduceParams) (ortc.RtpParameters, error) {
	return onLoop(ctx, l, func() (ortc.RtpParameters, error) { return l.produce(p) })
}

// Consume makes a consumer of a producer of the same router. Errors: ErrNotFound
// (transport or producer), ErrExists (id in use, or the transport consumes this
// producer already), ErrInvalid, ErrUnsupported, ErrExhausted.
func (l *Loop) Consume(ctx context.Context, p ConsumeParams) (ConsumeResult, error) {
	return onLoop(ctx, l, func() (ConsumeResult, error) { return l.consume(p) })
}

// PauseProducer stops the forwarding of a producer. Pausing twice is no error.
// Errors: ErrNotFound.
func (l *Loop) PauseProducer(ctx context.Context, id ident.ProducerID) error {
	return act(ctx, l, func() error { return l.setProducerPaused(id, true) })
}

// ResumeProducer undoes PauseProducer. Errors: ErrNotFound.
func (l *Loop) ResumeProducer(ctx context.Context, id ident.ProducerID) error {
	return act(ctx, l, func() error { return l.setProducerPaused(id, false) })
}

// CloseProducer closes a producer and its consumers. Errors: ErrNotFound.
func (l *Loop) CloseProducer(ctx context.Context, id ident.ProducerID) error {
	return act(ctx, l, func() error { return l.closeProducerCall(id) })
}

// PauseConsumer stops the forwarding to a consumer. Pausing twice is no error.
// Errors: ErrNotFound.
func (l *Loop) PauseConsumer(ctx context.Context, id ident.ConsumerID) error {
	return act(ctx, l, func() error { return l.setConsumerPaused(id, true) })
}

// ResumeConsumer undoes PauseConsumer; sequence numbers go on without a gap.
// Errors: ErrNotFound.
func (l *Loop) ResumeConsumer(ctx context.Context, id ident.ConsumerID) error {
	return act(ctx, l, func() error { return l.setConsumerPaused(id, false) })
}

// CloseConsumer closes a consumer. Errors: ErrNotFound.
func (l *Loop) CloseConsumer(ctx context.Context, id ident.ConsumerID) error {
	return act(ctx, l, func() error { return l.closeConsumerCall(id) })
}

// Dump copies the object tree of one router, or of all when id is empty.
// Errors: ErrNotFound.
func (l *Loop) Dump(ctx context.Context, id ident.RouterID) (WorkerDump, error) {
	return onLoop(ctx, l, func() (WorkerDump, error) { return l.dump(id) })
}

// Stats reports on the objects asked for. Errors: ErrNotFound, ErrInvalid (more
// than one target).
func (l *Loop) Stats(ctx context.Context, target StatsTarget) (Stats, error) {
	return onLoop(ctx, l, func() (Stats, error) { return l.stats(target) })
}

// ReleaseBuffers gives the memory of the log of sent packets back to the system, if
// no transport is there to use it, and says whether none was. Errors are the
// system's.
func (l *Loop) ReleaseBuffers(ctx context.Context) (bool, error) {
	return onLoop(ctx, l, l.releaseBuffers)
}

// Usage counts objects and packets.
func (l *Loop) Usage(ctx context.Context) (Usage, error) {
	return onLoop(ctx, l, func() (Usage, error) { return l.usage(), nil })
}
