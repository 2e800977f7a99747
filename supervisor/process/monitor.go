package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/dspeak/sfu/internal/lapse"
	"github.com/dspeak/sfu/internal/ledgerfile"
	"github.com/dspeak/sfu/internal/obs"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
)

const (
	usageInterval = time.Second
	usageTimeout  = 2 * time.Second
	watchTimeout  = 2 * time.Second
	// rewatchPause is the pause before a broken event stream is opened again.
	rewatchPause = 100 * time.Millisecond
)

// monitor follows one ready worker.
type monitor struct {
	keeper    *keeper
	client    workerv1.WorkerServiceClient
	conn      *grpc.ClientConn
	from      Event         // what the events of the worker begin with
	watching  chan struct{} // closed by followEvents once the first stream is open, or has failed
	announced chan struct{} // closed by the keeper once it told that the worker is ready
}

// checkHealth returns that the worker hangs, nothing when ctx ends first. A check that
// failed does not count while something else keeps the process from running, and none from
// before a standstill of this process counts after it.
func (m *monitor) checkHealth(ctx context.Context, pid int) finding {
	limits := m.keeper.pool.cfg.Health
	client := healthv1.NewHealthClient(m.conn)
	ticker := time.NewTicker(limits.Interval)
	defer ticker.Stop()
	attention := &m.keeper.pool.attention
	failures, thawed, answered := 0, attention.look(ledgerfile.Now()), int64(0)
	for {
		select {
		case <-ctx.Done():
			return finding{}
		case <-ticker.C:
		}
		err := checkOnce(ctx, client, limits.Timeout)
		if ctx.Err() != nil {
			return finding{}
		}
		now := ledgerfile.Now()
		last := thawed
		if thawed = attention.look(now); err == nil || thawed != last {
			failures = 0
			if err == nil {
				answered = now
			}
			continue
		}
		if keptFromRunning(vitalsOf(pid, allThreads), attention.thawing(now) && answered < thawed) {
			continue
		}
		if failures++; failures >= limits.Failures {
			return finding{cause: fmt.Sprintf("hung: %d health checks failed, the last with: %v", failures, err), hung: true}
		}
	}
}

// errNotServing: the worker answers, but its media loop stands still.
var errNotServing = errors.New("media loop stands still")

func checkOnce(ctx context.Context, client healthv1.HealthClient, timeout time.Duration) error {
	ctx, cancel := lapse.WithTimeout(ctx, timeout)
	defer cancel()
	resp, err := client.Check(ctx, &healthv1.HealthCheckRequest{})
	if err != nil {
		return fmt.Errorf("check health: %w", err)
	}
	if resp.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		return errNotServing
	}
	return nil
}

// pollUsage keeps the slot's figures fresh until ctx ends.
func (m *monitor) pollUsage(ctx context.Context) {
	ticker := time.NewTicker(usageInterval)
	defer ticker.Stop()
	var cpu meter
	for {
		asked := time.Now()
		if usage, err := m.usage(ctx); err == nil {
			used := time.Duration(usage.GetCpuTimeUs()) * time.Microsecond //nolint:gosec // centuries
			reading, ok := cpu.read(asked, time.Now(), used)
			m.keeper.noteUsage(usage, reading, ok)
		} else if ctx.Err() == nil {
			m.keeper.log.Debug("worker tells no usage", obs.Err(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (m *monitor) usage(ctx context.Context) (*workerv1.ResourceUsage, error) {
	ctx, cancel := context.WithTimeout(ctx, usageTimeout)
	defer cancel()
	resp, err := m.client.GetResourceUsage(ctx, &workerv1.GetResourceUsageRequest{})
	return resp.GetUsage(), err
}

// followEvents passes the worker's events on until ctx ends. A stream that breaks
// while the worker lives is opened again, and the reader told of the gap.
func (m *monitor) followEvents(ctx context.Context) {
	watching := sync.OnceFunc(func() {
		close(m.watching)
		select {
		case <-m.announced: // no event comes before that
		case <-ctx.Done():
		}
	})
	opened := watching
	for {
		err := m.followOnce(ctx, opened)
		watching() // or a worker that tells no events would never serve
		if ctx.Err() != nil {
			return
		}
		m.keeper.log.Debug("worker event stream ended", slog.Any(obs.KeyError, err))
		pause(ctx, rewatchPause)
		opened = func() {
			m.emit(ctx, EventMissed, nil)
		}
	}
}

// followOnce calls opened once the worker records events for the stream: it sends
// the header then.
func (m *monitor) followOnce(ctx context.Context, opened func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	impatience := time.AfterFunc(watchTimeout, cancel)
	defer impatience.Stop()
	stream, err := m.client.WatchEvents(ctx, &workerv1.WatchEventsRequest{})
	if err == nil {
		_, err = stream.Header()
	}
	if err != nil {
		return fmt.Errorf("watch events: %w", err)
	}
	impatience.Stop()
	opened()
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive event: %w", err)
		}
		m.emit(ctx, EventWorker, event)
	}
}

func (m *monitor) emit(ctx context.Context, kind EventKind, told *workerv1.WatchEventsResponse) {
	e := m.from
	e.Kind, e.Worker = kind, told
	m.keeper.pool.emit(ctx, e)
}
