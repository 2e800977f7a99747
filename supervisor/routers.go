package supervisor

import (
	"context"
	"slices"
	"time"

	"github.com/dspeak/sfu/internal/lapse"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/supervisor/process"
)

// createRouter makes a router on the worker that was chosen for it.
func (b *backend) createRouter(ctx context.Context, r *router, data []byte) error {
	client, err := b.client(r)
	if err != nil {
		return err
	}
	short, cancel := lapse.WithTimeout(ctx, placeTimeout)
	defer cancel()
	resp, err := client.CreateRouter(short, &workerv1.CreateRouterRequest{RouterId: string(r.id), AppData: data})
	if err != nil {
		if uncertain(err) {
			b.carryOut(ctx, cleanup{router: *r, closeAll: true})
		}
		return err
	}
	r.capabilities, err = toJSON(resp.GetRtpCapabilities())
	return err
}

// serving says whether at least one worker serves.
func (b *backend) serving() bool {
	return slices.ContainsFunc(b.workers.Workers(), serves)
}

// unhealthy says why nobody can join; empty: one can.
func (b *backend) unhealthy() string {
	switch {
	case !b.serving():
		return "no worker serves"
	case !b.addresses.isKnown():
		return b.addresses.missing()
	}
	return ""
}

// alive says that the supervisor moves: it waits for the registry.
func (b *backend) alive() bool {
	b.registry.mu.Lock()
	defer b.registry.mu.Unlock()
	return true
}

// serves says whether calls of a worker are answered, be it a moment later.
func serves(w process.WorkerInfo) bool {
	return w.State == process.StateReady || w.State == process.StateTakeover || w.State == process.StateHung
}

// awaitServing waits until a worker serves, bounded.
func (b *backend) awaitServing(ctx context.Context, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !b.serving() {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
	return true
}
