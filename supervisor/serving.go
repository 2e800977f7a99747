package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/supervisor/process"
)

// firstWorkerTimeout bounds how long a start may take until a worker serves.
const firstWorkerTimeout = 20 * time.Second

// announceServing tells everyone that the supervisor serves, once a worker does. It
// returns an error when none will, and nothing when ctx ends before.
func (s *supervisor) announceServing(ctx context.Context) error {
	switch serves := s.awaitFirstWorker(ctx); {
	case !serves && stopped(ctx):
		return nil
	case !serves:
		return fmt.Errorf("no worker serves: %s: %w", firstFault(s.pool.Workers()), errs.ErrUnavailable)
	}
	s.Guard.Disarm()
	s.log.Info("supervisor serves", slog.String("address", s.http.Addr().String()), slog.String("environment", s.cfg.Environment))
	return s.Manager.Ready(fmt.Sprintf("serves on %s with %d workers", s.http.Addr(), len(s.pool.Workers())))
}

// awaitFirstWorker waits until a worker serves. False: none does in time, or all slots
// are given up.
func (s *supervisor) awaitFirstWorker(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, firstWorkerTimeout)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		hope := false
		for _, w := range s.pool.Workers() {
			if w.State == process.StateReady {
				return true
			}
			hope = hope || w.State != process.StateFailed
		}
		if !hope {
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
}

// firstFault is the reason of a slot whose worker does not start.
func firstFault(workers []process.WorkerInfo) string {
	for _, w := range workers {
		if w.Fault != "" {
			return fmt.Sprintf("worker %d: %s", w.Slot, w.Fault)
		}
	}
	return "workers are still starting"
}

// stopped reports whether the process is asked to end.
func stopped(ctx context.Context) bool { return ctx.Err() != nil }
