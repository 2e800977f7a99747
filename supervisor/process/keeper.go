package process

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/lapse"
	"github.com/dspeak/sfu/internal/obs"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
)

// keeper owns the worker of one slot for life. Its goroutine alone writes the
// state:
//
//	starting -> ready -> takeover -> ready     the spare, or a fresh process, at once
//	   |          |        |-----> backoff     processes die young, one after another
//	   |          |        '-----> exited      the state is lost: no ledger, or it cannot be gone on with
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
	conn   *grpc.ClientConn // of the slot, whatever process serves it
	state  slotState
	// adopted: the slot goes on with what a former supervisor left, which is still to be
	// told. left is its worker, until it is followed; nil: it is dead.
	adopted bool
	left    *child
	// replace asks the goroutine to replace the process that serves. next is the one that
	// is to serve then; nil: the spare, or a fresh one.
	replace chan replacement
	next    *child
	blames  blames
	skip    []uint64 // marks of the poison that the next process leaves out
	wake    chan struct{}

	mu     sync.Mutex
	layout uint64                       // guarded by mu: of the state of the process that serves
	info   WorkerInfo                   // guarded by mu
	loads  readings                     // guarded by mu; of the epoch
	client workerv1.WorkerServiceClient // guarded by mu; nil unless ready
}

func newKeeper(p *Pool, slot ident.Slot) *keeper {
	k := &keeper{
		pool: p, slot: slot, cpu: -1, policy: newRestartPolicy(p.cfg.RestartBurst), replace: make(chan replacement), wake: make(chan struct{}),
		log: p.log.With(slog.Any(obs.KeySlot, slot)),
	}
	if n := len(p.cfg.CPUs); n > 0 {
		k.cpu = p.cfg.CPUs[int(slot)%n]
	}
	k.info = WorkerInfo{
		Slot: slot, CPU: k.cpu, State: StateStarting, Since: time.Now(), Reserve: p.cfg.Reserve && int(slot) == p.cfg.Slots-1,
	}
	return k
}

// inherit makes the slot go on with what a former supervisor left. It is called before
// run.
func (k *keeper) inherit(r *Remains) {
	k.info.Generation, k.info.Epoch = r.Generation, r.Epoch
	k.left, k.state.ledger = r.worker, r.Ledger
	k.adopted = r.GoesOn()
	if k.adopted {
		k.awake()
	}
	if k.left == nil && k.state.ledger != nil {
		k.state.died(time.Now(), "its supervisor ended, too", byOthers)
	}
}

func (k *keeper) snapshot() WorkerInfo {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.info
}

func (k *keeper) current() (workerv1.WorkerServiceClient, ident.Epoch, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.client, k.info.Epoch, k.client != nil
}

func (k *keeper) setState(s State) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.info.State, k.info.Since = s, time.Now()
	if s != StateReady && s != StateTakeover && s != StateHung {
		k.client = nil
	}
	if s != StateReady {
		k.info.Usage = nil
	}
	if s != StateReady && s != StateDraining && s != StateHung {
		k.info.PID = 0
	}
}

// noteUsage books a report of the worker; measured reports whether it has a reading.
func (k *keeper) noteUsage(usage *workerv1.ResourceUsage, r reading, measured bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.info.Usage = usage
	if measured {
		k.loads.add(r.began, r.share)
		k.info.Load = k.loads.load()
	}
}

// run serves the slot until ctx ends or the slot is given up.
func (k *keeper) run(ctx context.Context) {
	conn, err := dial(k.pool.SocketPath(k.slot))
	if err != nil { // a malformed path, which NewPool refuses
		k.giveUp(ctx, err.Error())
		return
	}
	k.conn = conn
	defer func() { _ = conn.Close() }()
	defer func() {
		if !k.pool.leaving.Load() {
			k.forget()
		}
	}()
	defer func() {
		if k.next != nil { // asked for, and then the pool stopped
			k.next.kill()
		}
	}()
	select {
	case <-k.wake:
	case <-ctx.Done():
	}
	for ctx.Err() == nil {
		end := k.serveOnce(ctx)
		if ctx.Err() != nil {
			break
		}
		if end.final {
			k.giveUp(ctx, end.cause)
			return
		}
		if end.cause == CauseRestart || end.cause == CauseUpgrade {
			continue
		}
		if d := k.policy.ended(time.Now(), end.served); d > 0 {
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

func (k *keeper) giveUp(ctx context.Context, cause string) {
	k.log.Error("worker slot given up", slog.String(obs.KeyReason, cause))
	k.setState(StateFailed)
	k.pool.emit(ctx, Event{Kind: EventFailed, Slot: k.slot, Generation: k.snapshot().Generation, Epoch: k.snapshot().Epoch, Cause: cause})
}

// ending is how a process ended.
type ending struct {
	cause  string
	served time.Duration // 0: it never came to serve
	final  bool          // the slot cannot be served at all
}

// serveOnce runs one process to its end.
func (k *keeper) serveOnce(ctx context.Context) ending {
	if c := k.left; c != nil {
		k.left = nil
		end := k.serve(ctx, c, k.adopt(c))
		end.served = max(end.served, youngAge) // it has served a former supervisor
		return end
	}
	generation, epoch := k.begin()
	log := k.log.With(slog.Any(obs.KeyGeneration, generation))
	trial := k.next != nil
	c, err := k.obtain(ctx, generation)
	var resumed *handoff.Resumed
	if err == nil {
		log = log.With(slog.Int(obs.KeyPID, c.pid()))
		c.attach(log)
		resumed, err = k.bringUp(ctx, c, generation, epoch)
	}
	if err != nil {
		f := ofItself
		if c != nil && !trial && k.state.resuming && c.faulted() && k.blame(c.cause()) {
			f = ofRouter // it works before it says that it serves
		}
		cause, final := k.notStarted(ctx, log, err, trial, f)
		return ending{cause: cause, final: final}
	}
	k.ready(log, resumed)
	e := Event{Kind: EventReady, Slot: k.slot, Generation: generation, Epoch: epoch}
	if resumed != nil {
		e.Kind, e.Resumed, e.Cause, e.Skipped = EventTakeover, *resumed, k.state.cause, k.skip
		if k.adopted {
			e.Kind = EventAdopted
		}
	}
	return k.serve(ctx, c, e)
}

// cpus are those that the slot's worker may run on; empty: not known.
func (k *keeper) cpus() []int {
	if k.cpu >= 0 {
		return []int{k.cpu}
	}
	return k.pool.cfg.Allowed
}

// adopt books the worker that a former supervisor left.
func (k *keeper) adopt(c *child) Event {
	k.mu.Lock()
	k.info.PID = c.pid()
	k.mu.Unlock()
	info := k.snapshot()
	k.state.serves(time.Now())
	if cpus := k.cpus(); len(cpus) > 0 { // those of the former supervisor may be others
		if err := pinProcess(c.pid(), cpus...); err != nil {
			k.log.Warn("former worker keeps its CPUs", obs.Err(err))
		}
	}
	k.log.Info("worker adopted", slog.Any(obs.KeyGeneration, info.Generation), slog.Int(obs.KeyPID, c.pid()))
	return Event{Kind: EventAdopted, Slot: k.slot, Generation: info.Generation, Epoch: info.Epoch}
}

// serve follows a process that serves to its end, for which its settings are not to
// blame. announce says that it serves.
func (k *keeper) serve(ctx context.Context, c *child, announce Event) ending {
	log := k.log.With(slog.Any(obs.KeyGeneration, announce.Generation), slog.Int(obs.KeyPID, c.pid()))
	began := time.Now()
	found := k.watch(ctx, c, announce)
	end := ending{cause: found.cause, served: time.Since(began)}
	if ctx.Err() != nil {
		if k.pool.leaving.Load() {
			c.leave()
			end.cause = "left to the next supervisor"
			return end
		}
		k.setState(StateDraining)
		c.stop(k.pool.cfg.StopTimeout, k.pool.cfg.Hurry)
		k.setState(StateExited)
		end.cause = "stopped"
		return end
	}
	switch end.cause {
	case CauseRestart:
		c.retire()
		k.state.died(time.Now(), end.cause, byOthers)
		log.Info("worker retired")
	case CauseUpgrade: // with nothing to go on with
		c.stop(k.pool.cfg.StopTimeout, k.pool.cfg.Hurry)
		log.Info("worker ended")
		k.lose(ctx, end.cause)
	default:
		end.cause = k.bury(log, c, found)
		if !k.state.held() {
			k.lose(ctx, end.cause)
		}
	}
	return end
}

// bury books a process that crashed, or that hangs and is killed. It returns why.
func (k *keeper) bury(log *slog.Logger, c *child, found finding) string {
	innocent := found.hung && stopped(c.pid())
	c.kill()
	cause, guilty := found.cause, found.guilty
	if !found.hung {
		cause, guilty, innocent = c.cause(), c.faulted(), c.killed()
	}
	f := ofItself
	switch {
	case innocent:
		f = byOthers
	case guilty && k.blame(cause):
		f = ofRouter
	}
	k.state.died(time.Now(), cause, f)
	log.Error("worker crashed", slog.String(obs.KeyReason, cause), slog.String("output", c.output.tailText()))
	return cause
}

// begin starts a generation: with the state that is held, or with nothing.
func (k *keeper) begin() (ident.Generation, ident.Epoch) {
	takeover := k.state.held()
	if takeover {
		k.setState(StateTakeover)
	} else {
		k.setState(StateStarting)
		if err := k.state.make(); err != nil {
			k.log.Warn("a crash of the worker will lose its users", obs.Err(err))
		}
	}
	k.mu.Lock()
	k.info.Generation++
	if !takeover {
		k.info.Epoch++
		k.loads, k.info.Load = readings{}, Load{}
	}
	generation, epoch := k.info.Generation, k.info.Epoch
	k.mu.Unlock()
	if !takeover && k.state.ledger != nil && k.pool.cfg.Hold != nil {
		k.pool.cfg.Hold(heldLedger(k.slot, epoch), k.state.ledger)
	}
	return generation, epoch
}

// forget lets go of the state.
func (k *keeper) forget() {
	k.state.drop()
	if k.pool.cfg.Release != nil {
		k.pool.cfg.Release(heldLedger(k.slot, k.snapshot().Epoch))
	}
}

// notStarted books a process that did not come to serve. trial: another program may.
func (k *keeper) notStarted(ctx context.Context, log *slog.Logger, err error, trial bool, f fate) (cause string, final bool) {
	if ctx.Err() == nil {
		log.Error("worker does not start", obs.Err(err))
	}
	k.mu.Lock()
	k.info.Fault = err.Error()
	k.mu.Unlock()
	bad := errors.Is(err, errBadSettings) && !trial
	if k.state.resuming {
		// It may be the state that it cannot use, and another attempt may succeed.
		if !k.state.failed(bad, f) {
			return err.Error(), false
		}
		k.lose(ctx, err.Error())
		return err.Error(), false
	}
	k.forget()
	if !bad {
		k.lose(ctx, err.Error())
	}
	return err.Error(), bad
}

// lose tells that the state of the epoch is gone.
func (k *keeper) lose(ctx context.Context, cause string) {
	info := k.snapshot()
	k.forget()
	k.setState(StateExited)
	k.pool.emit(ctx, Event{Kind: EventDown, Slot: k.slot, Generation: info.Generation, Epoch: info.Epoch, Cause: cause})
}

// ready books a process that serves.
func (k *keeper) ready(log *slog.Logger, resumed *handoff.Resumed) {
	k.conn.ResetConnectBackoff()
	if resumed == nil {
		k.state.serves(time.Now())
		log.Info("worker ready", slog.Int("cpu", k.cpu))
		return
	}
	took := k.state.serves(time.Now())
	k.mu.Lock()
	k.info.Takeovers++
	k.info.LastTakeover = took
	k.mu.Unlock()
	log.Info("worker took over", slog.Int("cpu", k.cpu), slog.Duration("after", took),
		slog.Duration("ledger", time.Duration(resumed.Duration)), slog.Int("routers", resumed.Routers),
		slog.Int("transports", resumed.Transports), slog.Int("consumers", resumed.Consumers), slog.Int("dropped", resumed.Dropped))
}

// obtain returns the process that is to serve next: the one of a replacement, the
// spare, pinned now, or one that was started pinned.
func (k *keeper) obtain(ctx context.Context, generation ident.Generation) (*child, error) {
	c := k.next
	k.next = nil
	if c == nil && generation > 1 {
		c = k.pool.takeSpare()
	}
	if c == nil {
		return k.pool.spawn(ctx, k.pool.program.Load(), k.cpu)
	}
	if k.cpu < 0 {
		return c, nil
	}
	if err := pinProcess(c.pid(), k.cpu); err != nil {
		k.log.Warn("spare worker is not pinned", obs.Err(err))
	}
	return c, nil
}

// bringUp gives the process its slot and waits until it serves. It returns what it went
// on with, nil if it began with nothing.
func (k *keeper) bringUp(ctx context.Context, c *child, generation ident.Generation, epoch ident.Epoch) (*handoff.Resumed, error) {
	k.mu.Lock()
	k.info.PID = c.pid()
	k.mu.Unlock()
	if restore := k.pool.cfg.RestoreRunDir; restore != nil {
		if err := restore(); err != nil {
			k.log.Error("run directory", obs.Err(err))
		}
	}
	limit := k.pool.startTimeout
	if c.trial {
		limit = min(limit, trialTimeout)
	}
	ctx, cancel := lapse.WithTimeout(ctx, limit)
	defer cancel()
	a, files := k.pool.assignment(k.slot, generation, epoch), k.pool.cfg.Sockets[k.slot].Files
	if k.state.ledger != nil {
		k.state.emptyHand()
		a.Takeover = k.state.resuming
		a.SkipRouters = k.skip
		a.Files, files = append(slices.Clone(a.Files), handoff.FileLedger), append(slices.Clone(files), k.state.ledger)
	}
	ready, err := c.assign(ctx, a, files)
	if err != nil {
		return nil, c.fail(err)
	}
	if a.Takeover && ready.Resumed == nil {
		ready.Resumed = &handoff.Resumed{} // it says nothing of it
	}
	return ready.Resumed, nil
}
