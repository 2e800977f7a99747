package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dspeak/sfu/internal/errs/status"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/obs"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
)

// keeper owns the worker of one slot for life. Its goroutine alone writes the
// state:
//
//	starting -> ready -> exited -> starting    the spare, or a fresh process, at once
//	   |          |        '-----> backoff     failures came too often
//	   |          |-> hung -> exited           killed first
//	   |          '-> draining -> exited       the pool stops
//	   |-> starting                            it did not start: once more
//	   |-> backoff -> starting                 it did not start, again
//	   '-> failed                              bad settings: given up
type keeper struct {
	pool   *Pool
	slot   ident.Slot
	cpu    int // -1: not pinned
	log    *slog.Logger
	policy restartPolicy

	mu     sync.Mutex
	info   WorkerInfo                   // guarded by mu
	client workerv1.WorkerServiceClient // guarded by mu; nil unless ready
}

func newKeeper(p *Pool, slot ident.Slot) *keeper {
	k := &keeper{
		pool: p, slot: slot, cpu: -1, policy: newRestartPolicy(),
		log: p.log.With(slog.Any(obs.KeySlot, slot)),
	}
	if n := len(p.cfg.CPUs); n > 0 {
		k.cpu = p.cfg.CPUs[int(slot)%n]
	}
	k.info = WorkerInfo{Slot: slot, CPU: k.cpu, State: StateStarting, Since: time.Now()}
	return k
}

func (k *keeper) snapshot() WorkerInfo {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.info
}

func (k *keeper) current() (workerv1.WorkerServiceClient, ident.Generation, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.client, k.info.Generation, k.client != nil
}

func (k *keeper) setState(s State) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.info.State, k.info.Since = s, time.Now()
	if s != StateReady {
		k.client, k.info.Usage = nil, nil
	}
	if s != StateReady && s != StateDraining && s != StateHung {
		k.info.PID = 0
	}
}

// run serves the slot until ctx ends or the slot is given up.
func (k *keeper) run(ctx context.Context) {
	for ctx.Err() == nil {
		cause, final := k.serveOnce(ctx)
		if ctx.Err() != nil {
			break
		}
		if final {
			k.log.Error("worker slot given up", slog.String(obs.KeyReason, cause))
			k.setState(StateFailed)
			k.pool.emit(ctx, Event{Kind: EventFailed, Slot: k.slot, Generation: k.generation(), Cause: cause})
			return
		}
		if d := k.policy.failed(time.Now()); d > 0 {
			k.setState(StateBackoff)
			k.log.Warn("worker restart delayed", slog.Duration("delay", d))
			pause(ctx, d)
		}
		k.mu.Lock()
		k.info.Restarts++
		k.mu.Unlock()
	}
	k.setState(StateExited)
}

func (k *keeper) generation() ident.Generation { return k.snapshot().Generation }

// serveOnce runs one process to its end and tells why it ended, and whether the
// slot cannot be served at all.
func (k *keeper) serveOnce(ctx context.Context) (cause string, final bool) {
	k.setState(StateStarting)
	k.mu.Lock()
	k.info.Generation++
	generation := k.info.Generation
	k.mu.Unlock()
	c, err := k.obtain(ctx, generation > 1)
	log := k.log.With(slog.Any(obs.KeyGeneration, generation))
	if err == nil {
		log = log.With(slog.Int(obs.KeyPID, c.pid()))
		c.attach(log)
		err = k.bringUp(ctx, c, generation)
	}
	if err != nil {
		final = errors.Is(err, errBadSettings)
		if ctx.Err() == nil {
			log.Error("worker does not start", obs.Err(err))
		}
		if !final {
			k.pool.emit(ctx, Event{Kind: EventDown, Slot: k.slot, Generation: generation, Cause: err.Error()})
		}
		return err.Error(), final
	}
	log.Info("worker ready", slog.Int("cpu", k.cpu))
	cause = k.watch(ctx, c, generation)
	if ctx.Err() != nil {
		k.setState(StateDraining)
		c.stop(k.pool.cfg.StopTimeout, k.pool.cfg.Hurry)
		k.setState(StateExited)
		return "stopped", false
	}
	c.kill()
	if cause == "" {
		cause = c.cause()
	}
	k.setState(StateExited)
	log.Error("worker crashed", slog.String(obs.KeyReason, cause), slog.String("output", c.output.tailText()))
	k.pool.emit(ctx, Event{Kind: EventDown, Slot: k.slot, Generation: generation, Cause: cause})
	return cause, false // whatever its exit code, its settings were good enough to serve
}

// obtain returns the spare, pinned now, or a process that was started pinned.
func (k *keeper) obtain(ctx context.Context, spare bool) (*child, error) {
	if !spare {
		return k.pool.spawn(ctx, k.cpu)
	}
	c := k.pool.takeSpare()
	if c == nil {
		return k.pool.spawn(ctx, k.cpu)
	}
	if k.cpu < 0 {
		return c, nil
	}
	if err := pinProcess(c.pid(), k.cpu); err != nil {
		k.log.Warn("spare worker is not pinned", obs.Err(err))
	}
	return c, nil
}

// bringUp gives the process its slot and waits until it serves.
func (k *keeper) bringUp(ctx context.Context, c *child, generation ident.Generation) error {
	k.mu.Lock()
	k.info.PID = c.pid()
	k.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, k.pool.startTimeout)
	defer cancel()
	err := c.assign(ctx, k.pool.assignment(k.slot, generation), k.pool.cfg.Sockets[k.slot].Files)
	if err != nil {
		return c.fail(err)
	}
	return nil
}

// watch follows a ready worker until its process ends (then it returns ""), it
// hangs (then it returns why), or ctx ends.
func (k *keeper) watch(ctx context.Context, c *child, generation ident.Generation) string {
	conn, err := dial(k.pool.SocketPath(k.slot))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = conn.Close() }()
	client := workerv1.NewWorkerServiceClient(conn)
	ctx, cancel := context.WithCancel(ctx)
	m := monitor{
		keeper: k, client: client, conn: conn, generation: generation,
		watching: make(chan struct{}), announced: make(chan struct{}),
	}
	var parts sync.WaitGroup
	hung := make(chan string, 1)
	parts.Go(func() { m.followEvents(ctx) })
	parts.Go(func() { m.pollUsage(ctx) })
	parts.Go(func() {
		if cause := m.checkHealth(ctx); cause != "" {
			hung <- cause
		}
	})
	cause, watching := "", m.watching
	for over := false; !over; {
		select {
		case <-watching: // nobody uses the worker before its events are followed
			watching = nil
			k.setReady(client)
			k.pool.emit(ctx, Event{Kind: EventReady, Slot: k.slot, Generation: generation})
			close(m.announced)
			continue
		case <-c.exited:
		case cause = <-hung:
			k.setState(StateHung)
		case <-ctx.Done():
		}
		over = true
	}
	cancel()
	parts.Wait()
	return cause
}

func (k *keeper) setReady(client workerv1.WorkerServiceClient) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.client = client
	k.info.State, k.info.Since = StateReady, time.Now()
}

// dial opens a control connection, lazily. One that breaks while the worker lives
// is opened again sooner than the health check gives up.
func dial(path string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("unix:"+path,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(status.UnaryClient),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 200 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)),
	)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", path, err)
	}
	return conn, nil
}
