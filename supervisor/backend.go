package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/lapse"
	"github.com/dspeak/sfu/internal/obs"
	interopwire "github.com/dspeak/sfu/interop/wire"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/signaling"
	"github.com/dspeak/sfu/signaling/wire"
	"github.com/dspeak/sfu/supervisor/process"
)

const (
	// callTimeout bounds one control call.
	callTimeout = 5 * time.Second
	// cleanupTimeout bounds the calls of a clean-up, for which nobody waits. It leaves
	// time for more than one takeover.
	cleanupTimeout = 15 * time.Second
	// Bounds of what one user may hold.
	maxTransports = 16
	maxConsumers  = 2048
)

// workers is what the backend needs of the process pool.
type workers interface {
	Client(slot ident.Slot) (workerv1.WorkerServiceClient, ident.Epoch, bool)
	Workers() []process.WorkerInfo
	Restart(ctx context.Context, slot ident.Slot) error
	Drain(slot ident.Slot, on bool) bool
	Wake()
}

// presence takes news for the main server; it never blocks.
type presence interface {
	Send(m interopwire.Message)
}

// backend gives signaling requests and main-server messages their meaning. It
// implements signaling.Backend and interop.Backend.
type backend struct {
	registry  *registry
	workers   workers
	presence  presence // a no-op without a main server
	crowds    *crowds
	addresses *addresses
	log       *slog.Logger

	grace    time.Duration
	cooldown time.Duration

	iceServers atomic.Pointer[json.RawMessage]
	kicks      atomic.Uint64
	refusals   refusals
	faults     faults
	takeovers  *takeovers
	adoptions  *adoptions
	// background are the clean-up calls that nobody waits for but the end.
	background sync.WaitGroup
}

// errSessionClosed answers requests of a socket whose user is gone.
var errSessionClosed = fmt.Errorf("session: %w", errs.ErrClosed)

// Handle implements signaling.Backend. A request is carried to its end even when
// its socket ends meanwhile: a control call that is cut in the middle may leave an
// object that nobody knows of.
func (b *backend) Handle(ctx context.Context, s *signaling.Session, req wire.Request) error {
	c := call{backend: b, session: s, requestID: req.RequestID, ended: func() bool { return ctx.Err() != nil }}
	bounded, cancel := lapse.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	err := c.dispatch(bounded, req)
	b.refusals.note(err)
	return err
}

func (c *call) dispatch(ctx context.Context, req wire.Request) error {
	switch data := req.Data.(type) {
	case wire.GetRtpCapabilities:
		return c.getRtpCapabilities(ctx)
	case wire.ClientRtpCapabilities:
		return c.clientRtpCapabilities(ctx, data)
	case wire.CreateTransport:
		return c.createTransport(ctx)
	case wire.ConnectTransport:
		return c.connectTransport(ctx, data)
	case wire.Produce:
		return c.produce(ctx, data)
	case wire.Consume:
		return c.consume(ctx, data)
	case wire.Pause:
		return c.setPaused(ctx, data.Target, true)
	case wire.Resume:
		return c.setPaused(ctx, data.Target, false)
	case wire.CloseProducer:
		return c.closeProducer(ctx, data)
	case wire.CloseTransport:
		return c.closeTransport(ctx, data)
	default:
		return wire.ErrUnknownType(req.Type)
	}
}

// call is one request under way.
type call struct {
	*backend

	session   *signaling.Session
	requestID json.RawMessage
	// ended says whether the socket has ended: it reads no answer any more.
	ended func() bool
}

// userLocked is the socket's user, nil when it was removed.
func (c *call) userLocked() *user { return c.registry.sessions[c.session] }

// client returns the control client of the worker that holds the router, as long
// as it has the state in which the router was made. A call in the middle of a takeover
// waits for the successor.
func (b *backend) client(r *router) (workerv1.WorkerServiceClient, error) {
	if r == nil {
		return nil, errs.ErrUnavailable
	}
	client, epoch, ok := b.workers.Client(r.slot)
	if !ok || epoch != r.epoch {
		return nil, fmt.Errorf("worker %d: %w", r.slot, errs.ErrUnavailable)
	}
	return client, nil
}

// carryOut closes on the worker what the registry gave up. Nobody waits for it, and
// it goes on when ctx ends.
func (b *backend) carryOut(ctx context.Context, c cleanup) {
	if c.empty() {
		return
	}
	b.background.Go(func() { b.cleanUp(context.WithoutCancel(ctx), &c) })
}

// cleanUp makes the calls of a clean-up. What could not be closed in time is found by
// the next comparison with the worker.
func (b *backend) cleanUp(ctx context.Context, c *cleanup) {
	client, err := b.client(&c.router)
	if err != nil {
		return // the state is gone, and all of it with it
	}
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	if err := c.run(ctx, client); err != nil {
		if _, err := b.client(&c.router); err == nil {
			b.log.Warn("worker clean-up", slog.Any(obs.KeySlot, c.router.slot), obs.Err(err))
		}
	}
}

// run makes the calls. What is gone already is no fault.
func (c *cleanup) run(ctx context.Context, client workerv1.WorkerServiceClient) error {
	var faults []error
	note := func(err error) {
		if err != nil && !errors.Is(err, errs.ErrNotFound) {
			faults = append(faults, err)
		}
	}
	if c.closeAll {
		_, err := client.CloseRouter(ctx, &workerv1.CloseRouterRequest{RouterId: string(c.router.id)})
		note(err)
		return errors.Join(faults...)
	}
	for _, id := range c.consumers {
		_, err := client.CloseConsumer(ctx, &workerv1.CloseConsumerRequest{ConsumerId: string(id)})
		note(err)
	}
	for _, id := range c.producers {
		_, err := client.CloseProducer(ctx, &workerv1.CloseProducerRequest{ProducerId: string(id)})
		note(err)
	}
	for _, id := range c.transports {
		_, err := client.CloseTransport(ctx, &workerv1.CloseTransportRequest{TransportId: string(id)})
		note(err)
	}
	return errors.Join(faults...)
}

// awaitBackground waits for the clean-ups under way, or for the end of ctx: those that
// are left end with the workers.
func (b *backend) awaitBackground(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		b.background.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// uncertain says whether a call that failed may have had its effect all the same.
func uncertain(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, errs.ErrUnavailable)
}
