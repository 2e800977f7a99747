package process

import (
	"context"
	"sync"
	"time"

	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
)

// finding is why a worker is not followed any more. The zero value: its process has ended,
// or the context has.
type finding struct {
	cause string
	hung  bool
	// guilty: there is evidence that it hangs of what it had in hand.
	guilty bool
}

// watch follows a ready worker until its process ends, it hangs, another process is to
// take its place, or ctx ends.
func (k *keeper) watch(ctx context.Context, c *child, announce Event) finding {
	client := workerv1.NewWorkerServiceClient(k.conn)
	ctx, cancel := context.WithCancel(ctx)
	m := monitor{
		keeper: k, client: client, conn: k.conn,
		from:     Event{Slot: announce.Slot, Generation: announce.Generation, Epoch: announce.Epoch},
		watching: make(chan struct{}), announced: make(chan struct{}),
	}
	var parts sync.WaitGroup
	hung := make(chan finding, 2)
	parts.Go(func() { m.followEvents(ctx) })
	parts.Go(func() { m.pollUsage(ctx) })
	ledger, pid := k.state.ledger, c.pid()
	for _, check := range []func() finding{
		func() finding { return m.checkPulse(ctx, ledger, pid) }, func() finding { return m.checkHealth(ctx, pid) },
	} {
		parts.Go(func() {
			if found := check(); found.hung {
				hung <- found
			}
		})
	}
	var found finding
	watching := m.watching
	for over := false; !over; {
		select {
		case <-watching: // nobody uses the worker before its events are followed
			watching = nil
			k.setReady(client, c)
			k.adopted, k.skip = false, nil
			k.pool.emit(ctx, announce)
			close(m.announced)
			continue
		case <-c.exited:
		case found = <-hung:
			k.setState(StateHung)
		case r := <-k.replace:
			if err := k.replaceable(r); err != nil {
				r.answer <- err
				continue
			}
			k.next, found.cause = r.by, r.cause
			r.answer <- nil
		case <-ctx.Done():
		}
		over = true
	}
	cancel()
	parts.Wait()
	return found
}

func (k *keeper) setReady(client workerv1.WorkerServiceClient, c *child) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.client, k.layout, k.info.Version = client, c.layout, c.version
	k.info.State, k.info.Since = StateReady, time.Now()
}
