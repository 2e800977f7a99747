package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/supervisor/process"
)

// fakePool is a pool of fake workers.
type fakePool struct {
	conns []*fakeConn

	mu    sync.Mutex
	infos []process.WorkerInfo // guarded by mu
	// serving is closed while the slot's worker answers; guarded by mu.
	serving []chan struct{}
}

func newFakePool(t *testing.T, workers ...*fakeWorker) *fakePool {
	t.Helper()
	p := &fakePool{}
	for i, w := range workers {
		slot := ident.Slot(i)
		p.conns = append(p.conns, &fakeConn{ClientConnInterface: w.serve(t), pool: p, slot: slot})
		p.infos = append(p.infos, process.WorkerInfo{Slot: slot, Generation: 1, Epoch: 1, State: process.StateReady, PID: 100 + i, CPU: i})
		serving := make(chan struct{})
		close(serving)
		p.serving = append(p.serving, serving)
	}
	return p
}

// fakeConn waits for a takeover to end, and repeats a call that broke, as the pool's
// connections do.
type fakeConn struct {
	grpc.ClientConnInterface

	pool *fakePool
	slot ident.Slot
}

func (c *fakeConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	_, began, _ := c.pool.Client(c.slot)
	for {
		c.pool.mu.Lock()
		serving := c.pool.serving[c.slot]
		c.pool.mu.Unlock()
		select {
		case <-serving:
		case <-ctx.Done():
			return ctx.Err()
		}
		err := c.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
		if !errors.Is(err, errs.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		if _, now, ok := c.pool.Client(c.slot); !ok || now != began {
			return fmt.Errorf("worker %d lost its state: %w", c.slot, errs.ErrUnavailable)
		}
	}
}

func (p *fakePool) Client(slot ident.Slot) (workerv1.WorkerServiceClient, ident.Epoch, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if int(slot) >= len(p.conns) || !serves(p.infos[slot]) {
		return nil, 0, false
	}
	return workerv1.NewWorkerServiceClient(p.conns[slot]), p.infos[slot].Epoch, true
}

func (p *fakePool) Workers() []process.WorkerInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.infos)
}

// change edits a slot.
func (p *fakePool) change(slot ident.Slot, edit func(*process.WorkerInfo)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	edit(&p.infos[slot])
}

// interrupt keeps calls to a slot waiting until the returned function is called.
func (p *fakePool) interrupt(slot ident.Slot) (over func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	serving := make(chan struct{})
	p.serving[slot] = serving
	return sync.OnceFunc(func() { close(serving) })
}

// Drain implements workers.
func (p *fakePool) Drain(slot ident.Slot, on bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if int(slot) >= len(p.infos) {
		return false
	}
	p.infos[slot].Draining = on
	return true
}

// Wake implements workers: the last slot sleeps where a test made it so.
func (p *fakePool) Wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := &p.infos[len(p.infos)-1]
	if last.Reserve {
		last.State = process.StateReady
	}
}

// Restart implements workers.
func (p *fakePool) Restart(_ context.Context, slot ident.Slot) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if int(slot) >= len(p.infos) {
		return fmt.Errorf("worker %d: %w", slot, errs.ErrNotFound)
	}
	p.infos[slot].Generation++
	p.infos[slot].Takeovers++
	return nil
}
