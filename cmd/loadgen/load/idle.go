package load

import (
	"context"
	"fmt"
	"time"

	"github.com/dspeak/sfu/internal/errs"
)

// idleSettle is the silence before the idle time is measured, so that the workers
// have collected their garbage and given memory back.
const idleSettle = 12 * time.Second

// IdleReport is what the joined users cost while nobody speaks: the clients only
// check their consent, every 5 s.
type IdleReport struct {
	Elapsed     time.Duration `json:"elapsedNs"`
	WorkerCPU   time.Duration `json:"workerCpuNs"`
	WorkerShare float64       `json:"workerCpuShare"`
	// Resident is the memory at the end; BytesPerTransport its growth since before
	// the join by each transport with its producers and consumers.
	Resident          uint64 `json:"residentBytes"`
	BytesPerTransport int64  `json:"bytesPerTransport"`
}

// idle measures the workers in silence.
func (r *run) idle(ctx context.Context, before usage) (*IdleReport, error) {
	r.engine.quiet.Store(true)
	defer r.engine.quiet.Store(false)
	if err := pause(ctx, idleSettle); err != nil {
		return nil, err
	}
	began := time.Now()
	start, err := readUsage(r.cfg.PIDs)
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, r.cfg.Idle); err != nil {
		return nil, err
	}
	end, err := readUsage(r.cfg.PIDs)
	if err != nil {
		return nil, err
	}
	report := &IdleReport{Elapsed: time.Since(began), WorkerCPU: end.cpu - start.cpu, Resident: end.resident}
	report.WorkerShare = float64(report.WorkerCPU) / float64(report.Elapsed)
	if n := r.transports(); n > 0 {
		report.BytesPerTransport = (int64(end.resident) - int64(before.resident)) / int64(n)
	}
	return report, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("idle: %w: %w", context.Cause(ctx), errs.ErrClosed)
	}
}
