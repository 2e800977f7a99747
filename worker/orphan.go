package worker

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/stats"

	"github.com/dspeak/sfu/worker/rtc"
)

// clientCount counts the open control connections. Any goroutine may read it.
type clientCount struct{ open atomic.Int64 }

// TagConn is part of stats.Handler.
func (c *clientCount) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn is part of stats.Handler.
func (c *clientCount) HandleConn(_ context.Context, s stats.ConnStats) {
	switch s.(type) {
	case *stats.ConnBegin:
		c.open.Add(1)
	case *stats.ConnEnd:
		c.open.Add(-1)
	}
}

// TagRPC is part of stats.Handler.
func (c *clientCount) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC is part of stats.Handler.
func (c *clientCount) HandleRPC(context.Context, stats.RPCStats) {}

// used says whether anybody has a use for the worker.
func (w *worker) used(ctx context.Context) bool {
	if w.server.clients.open.Load() > 0 {
		return true
	}
	dump, err := w.loop.Dump(ctx, "")
	return err != nil || connected(dump)
}

// connected says whether a client uses one of the transports. One that no client has
// connected is of no use without a supervisor to do it.
func connected(dump rtc.WorkerDump) bool {
	for _, r := range dump.Routers {
		for _, t := range r.Transports {
			if t.DtlsLocalRole != "auto" {
				return true
			}
		}
	}
	return false
}

// awaitUseless waits until used said no for so long; false: ctx ended first.
func awaitUseless(ctx context.Context, limit time.Duration, used func(context.Context) bool) bool {
	ticker := time.NewTicker(max(limit/8, time.Millisecond))
	defer ticker.Stop()
	since := time.Now()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
		switch {
		case used(ctx):
			since = time.Now()
		case time.Since(since) >= limit:
			return ctx.Err() == nil
		}
	}
}
