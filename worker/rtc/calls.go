package rtc

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/worker/handshake"
	"github.com/dspeak/sfu/worker/ledger"
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

// digestOf tells calls apart. Equal parameters have equal JSON: its maps are sorted.
func digestOf(params any) ledger.Digest {
	b, err := json.Marshal(params)
	if err != nil {
		return ledger.Digest{} // of no call: parameters that have passed validation are JSON
	}
	sum := sha256.Sum256(b)
	return ledger.Digest(sum[:len(ledger.Digest{})])
}

// CreateRouter makes a router and returns what it can receive and send. appData is
// opaque, at most 4 KiB, and returned by Dump. Errors: ErrInvalid (no id, too much app
// data), ErrExists, ErrExhausted, ErrClosed or the context's. As for all calls below:
// any goroutine; when ctx ends before the loop reached the call, nothing is done. As
// for all calls that make something: the same call again answers as the first did, on
// a successor, too; ErrExists is for another one with the id.
func (l *Loop) CreateRouter(ctx context.Context, id ident.RouterID, appData []byte) (ortc.RtpCapabilities, error) {
	request := digestOf(appData)
	return onLoop(ctx, l, func() (ortc.RtpCapabilities, error) { return l.createRouter(id, appData, request) })
}

// SetRouterAppData replaces a router's app data. Errors: ErrNotFound, ErrInvalid (too
// much), ErrExhausted.
func (l *Loop) SetRouterAppData(ctx context.Context, id ident.RouterID, appData []byte) error {
	return act(ctx, l, func() error { return l.setRouterAppData(id, appData) })
}

// SetTransportAppData replaces a transport's app data. Errors: ErrNotFound, ErrInvalid
// (too much), ErrExhausted.
func (l *Loop) SetTransportAppData(ctx context.Context, id ident.TransportID, appData []byte) error {
	return act(ctx, l, func() error { return l.setTransportAppData(id, appData) })
}

// CloseRouter closes a router with all that it holds. Errors: ErrNotFound.
func (l *Loop) CloseRouter(ctx context.Context, id ident.RouterID) error {
	return act(ctx, l, func() error { return l.closeRouter(id) })
}

// CreateTransport makes an ICE-lite transport in a router. Errors: ErrNotFound (the
// router), ErrExists, ErrInvalid (no id, no announced address of the family, too much
// app data), ErrExhausted.
func (l *Loop) CreateTransport(ctx context.Context, p CreateTransportParams) (TransportInfo, error) {
	p.request = digestOf(p)
	return onLoop(ctx, l, func() (TransportInfo, error) { return l.createTransport(p) })
}

// ConnectTransport gives a transport the remote DTLS parameters, once, and returns
// the worker's own role, "client" or "server". Errors: ErrNotFound, ErrExists (it
// is connected already, with others), ErrInvalid (the role, or no fingerprint can be
// read). Another spelling of the same parameters is no difference.
func (l *Loop) ConnectTransport(ctx context.Context, id ident.TransportID, p DtlsParameters) (string, error) {
	remote, err := readDtlsParameters(p)
	if err != nil {
		return "", fmt.Errorf("connect transport %s: %w", id, err)
	}
	request := digestOf(struct {
		Role         handshake.Role
		Fingerprints []handshake.Fingerprint
	}{remote.role, remote.prints})
	return onLoop(ctx, l, func() (string, error) { return l.connectTransport(id, remote, request) })
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
	p.request = digestOf(p)
	return onLoop(ctx, l, func() (ortc.RtpParameters, error) { return l.produce(p) })
}

// Consume makes a consumer of a producer of the same router. Errors: ErrNotFound
// (transport or producer), ErrExists (id in use, or the transport consumes this
// producer already), ErrInvalid, ErrUnsupported, ErrExhausted.
func (l *Loop) Consume(ctx context.Context, p ConsumeParams) (ConsumeResult, error) {
	p.request = digestOf(p)
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
	d, err := onLoop(ctx, l, func() (WorkerDump, error) { return l.dump(id) })
	d.decode()
	return d, err
}

// Stats reports on the objects asked for. Errors: ErrNotFound, ErrInvalid (more
// than one target).
func (l *Loop) Stats(ctx context.Context, target StatsTarget) (Stats, error) {
	return onLoop(ctx, l, func() (Stats, error) { return l.stats(target) })
}

// ForgetDeclared frees what producers were made with, which is read from the ledger again
// when somebody asks: after a rush of users it is memory for nothing.
func (l *Loop) ForgetDeclared(ctx context.Context) error {
	_, err := onLoop(ctx, l, func() (struct{}, error) {
		for _, p := range l.table.producers {
			p.declared = nil
		}
		return struct{}{}, nil
	})
	return err
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
