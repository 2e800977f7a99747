package process

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/obs"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
)

// Config says which workers to run. All fields are required but CPUs, Allowed and MaxWait.
type Config struct {
	// Binary is the path of the worker program.
	Binary string
	// RunDir holds the workers' sockets, worker-<slot>.sock.
	RunDir string
	// RestoreRunDir is called before a worker gets its slot and makes RunDir anew if
	// somebody removed it, which is an error to log; nil: nobody does.
	RestoreRunDir func() error
	// Slots is the number of workers, 1 to 1024.
	Slots int
	// CPUs are those to pin to, slot after slot, around again when there are more
	// slots; empty: no pinning.
	CPUs []int
	// Allowed are the CPUs of workers that are not pinned.
	Allowed []int
	// Spare keeps one started worker ready for a slot whose worker died.
	Spare bool
	// Sockets are the media sockets of each slot, open for the life of the pool.
	Sockets []Sockets
	// Reserve makes the last slot sleep until Wake, or until it goes on with Remains.
	Reserve bool
	// Remains are what a former supervisor left, at most one of a slot. Those slots go on
	// with it, and report EventAdopted. Their sockets are to be among Sockets.
	Remains []*Remains
	// LogLevel is a slog level.
	LogLevel string
	// OrphanTimeout is how long workers without users outlive their supervisor.
	OrphanTimeout time.Duration
	// MaxWait bounds how long packets wait for others to the same destination; 0 is the worker's default.
	MaxWait time.Duration
	// NoSegmentation makes workers send packets one by one.
	NoSegmentation bool
	// Padding says when workers pad payloads; empty is the worker's default.
	Padding string
	// StopTimeout is how long a worker may take to end.
	StopTimeout time.Duration
	// RestartBurst is how many processes of a slot may die young one after another without a
	// pause.
	RestartBurst int
	// Hurry ends that patience when it is closed; nil never does.
	Hurry <-chan struct{}
	// Hold is told of each file that the next supervisor would need, under its name of
	// HeldFiles, and Release when it would not any more; nil: nobody holds files.
	Hold    func(name string, f *os.File)
	Release func(name string)
	// Condemn is told of each router that is poison, before any process that leaves it
	// out is started: who asks the successor knows the verdict. It must not block, and
	// may be called from any goroutine; nil: nobody wants to know.
	Condemn func(v Verdict)
	// Health says when a worker counts as hung.
	Health Health
}

// Verdict says that a router is poison: again and again its worker crashed with it in
// hand. The next process of the slot begins without it.
type Verdict struct {
	Slot  ident.Slot
	Epoch ident.Epoch
	// Mark is that of the router (package ledgerfile).
	Mark uint64
	// Cause is how the last process ended.
	Cause string
}

// Health are the limits of the liveness check: a worker is hung after so many
// failed checks in a row.
type Health struct {
	Interval time.Duration
	Timeout  time.Duration
	Failures int
}

// Sockets are the media sockets of one slot, with their names in the handoff.
type Sockets struct {
	Names []string
	Files []*os.File
}

// EventKind tells events apart.
type EventKind uint8

// The kinds of events.
const (
	// EventReady: the slot serves, and begins with nothing; Pool.Client gives its client.
	EventReady EventKind = iota + 1
	// EventTakeover: the worker was gone, for the reason Cause, and another process serves
	// the slot with its state, but for what Resumed says was dropped.
	EventTakeover
	// EventAdopted: the slot serves with the state of a former supervisor's worker, which
	// this one knows nothing of yet.
	EventAdopted
	// EventDown: the worker is gone, or did not start, for the reason Cause. So is all
	// state of the epoch.
	EventDown
	// EventFailed: the slot is given up, for the reason Cause.
	EventFailed
	// EventWorker: the worker told what happened, in Worker.
	EventWorker
	// EventMissed: what the worker told since the last event may be missing here. Its
	// dump tells what is left.
	EventMissed
)

// Event is news of a slot. Events of one slot come in order.
type Event struct {
	Kind       EventKind
	Slot       ident.Slot
	Generation ident.Generation
	Epoch      ident.Epoch
	Cause      string
	Resumed    handoff.Resumed
	// Skipped are the marks of condemned routers that a takeover left out.
	Skipped []uint64
	Worker  *workerv1.WatchEventsResponse
}

// State is where a slot stands; see keeper.
type State string

// The states of a slot.
const (
	StateStarting State = "starting"
	// StateTakeover: a process goes on with the state of the one that was lost. Calls wait.
	StateTakeover State = "takeover"
	StateReady    State = "ready"
	StateDraining State = "draining"
	StateHung     State = "hung"
	StateExited   State = "exited"
	StateBackoff  State = "backoff"
	StateFailed   State = "failed"
)

// WorkerInfo is a copy of what is known of a slot.
type WorkerInfo struct {
	Slot       ident.Slot
	Generation ident.Generation
	// Epoch grows by one when the slot begins with nothing.
	Epoch ident.Epoch
	State State
	PID   int
	// CPU is the one that the worker is pinned to, -1: none.
	CPU      int
	Restarts int
	// Takeovers counts the restarts that went on with the former process's state.
	// LastTakeover is how long the last one took, from the notice of the death to the
	// successor's readiness.
	Takeovers    int
	LastTakeover time.Duration
	Since        time.Time
	// Version is that of the worker's program, empty before it said so.
	Version string
	// Draining: the slot is to get no new channels.
	Draining bool
	// Reserve: the slot is that of Config.Reserve.
	Reserve bool
	// Fault is why a process did not come to serve, of the last that did not.
	Fault string
	// Usage is the worker's last report; nil before the first.
	Usage *workerv1.ResourceUsage
	// Load is how much of a CPU the worker needs. It outlives the processes of an epoch.
	Load Load
}

// eventQueue absorbs a burst of events; then the senders wait.
const eventQueue = 1024

// Pool runs all worker slots. Its exported methods may be called from any goroutine.
type Pool struct {
	cfg    Config
	log    *slog.Logger
	events chan Event
	spares chan *child
	// start and startTimeout are fields for tests: those make the test binary a worker.
	start        func(cmd *exec.Cmd, cpu int) error
	startTimeout time.Duration
	reapers      sync.WaitGroup
	keepers      []*keeper
	attention    attention
	leaving      atomic.Bool
	// program is what workers are started from. stale is told of another one.
	program atomic.Pointer[program]
	stale   chan struct{}
	// upgrading is held by the one upgrade at a time.
	upgrading sync.Mutex
	mu        sync.Mutex
	former    []*program // guarded by mu: the ones before program, still open
}

// NewPool prepares a pool; nothing runs before Run. A fault of the configuration
// is an errs.ErrInvalid.
func NewPool(cfg Config, log *slog.Logger) (*Pool, error) {
	if cfg.Slots < 1 || cfg.Slots > maxSlots || len(cfg.Sockets) != cfg.Slots {
		return nil, fmt.Errorf("%d workers with %d sets of sockets, want 1 to 1024: %w", cfg.Slots, len(cfg.Sockets), errs.ErrInvalid)
	}
	if cfg.Health.Interval <= 0 || cfg.Health.Timeout <= 0 || cfg.Health.Failures < 1 {
		return nil, fmt.Errorf("health limits %+v: %w", cfg.Health, errs.ErrInvalid)
	}
	// sun_path of unix(7) holds 108 bytes, the last a zero.
	if path := adoptPath(cfg.RunDir, strconv.Itoa(cfg.Slots-1)); len(path) > 107 {
		return nil, fmt.Errorf("socket path %s is longer than 107 bytes; choose a shorter run directory: %w", path, errs.ErrInvalid)
	}
	p := &Pool{cfg: cfg, log: log, events: make(chan Event, eventQueue), spares: make(chan *child), stale: make(chan struct{}, 1)}
	p.start, p.startTimeout = p.startProcess, startTimeout
	first, err := openProgram(cfg.Binary)
	if err != nil {
		return nil, err
	}
	p.program.Store(first)
	for slot := range cfg.Slots {
		k := newKeeper(p, ident.Slot(slot))
		p.keepers = append(p.keepers, k)
		if !cfg.Reserve || slot < cfg.Slots-1 {
			k.awake()
		}
	}
	for _, r := range cfg.Remains {
		if int(r.Slot) >= cfg.Slots {
			return nil, fmt.Errorf("remains of worker %d of %d: %w", r.Slot, cfg.Slots, errs.ErrInvalid)
		}
		p.keepers[r.Slot].inherit(r)
	}
	return p, nil
}

// Leave makes Run leave the workers that serve to the next supervisor when it ends,
// instead of stopping them.
func (p *Pool) Leave() { p.leaving.Store(true) }

// Run keeps the workers running until ctx ends, then stops them all, and returns
// when they are gone. Events is closed then.
func (p *Pool) Run(ctx context.Context) error {
	defer close(p.events)
	defer p.closePrograms()
	defer func() {
		if !p.leaving.Load() {
			p.reapers.Wait()
		}
	}()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { p.attention.run(ctx); return nil })
	for _, k := range p.keepers {
		group.Go(func() error { k.run(ctx); return nil })
	}
	if p.cfg.Spare {
		group.Go(func() error { p.keepSpare(ctx); return nil })
	}
	return group.Wait()
}

// closePrograms is called when nothing is started any more.
func (p *Pool) closePrograms() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, program := range append(p.former, p.program.Load()) {
		_ = program.close() // it was only read
	}
}

// Events is the news of all slots. Somebody must read it while the pool runs.
func (p *Pool) Events() <-chan Event { return p.events }

// emit sends an event; it gives up only when the pool stops.
func (p *Pool) emit(ctx context.Context, e Event) {
	select {
	case p.events <- e:
	case <-ctx.Done():
	}
}

// Workers returns a copy of every slot's state, by slot, without one that sleeps.
func (p *Pool) Workers() []WorkerInfo {
	infos := make([]WorkerInfo, 0, len(p.keepers))
	for _, k := range p.keepers {
		if k.isAwake() {
			infos = append(infos, k.snapshot())
		}
	}
	return infos
}

// Wake starts the slot that Config.Reserve keeps asleep, if there is one.
func (p *Pool) Wake() {
	if p.cfg.Reserve {
		p.keepers[len(p.keepers)-1].awake()
	}
}

// Client returns the control client of a slot while it serves, and the epoch of its
// state. During a takeover its calls wait, within their deadline, and those that the
// former process did not answer are made again.
func (p *Pool) Client(slot ident.Slot) (workerv1.WorkerServiceClient, ident.Epoch, bool) {
	k := p.keeper(slot)
	if k == nil {
		return nil, 0, false
	}
	return k.current()
}

// keeper is that of a slot; nil: there is none, or it sleeps.
func (p *Pool) keeper(slot ident.Slot) *keeper {
	if int(slot) >= len(p.keepers) || !p.keepers[slot].isAwake() {
		return nil
	}
	return p.keepers[slot]
}

// Drain says whether a slot is to get no new channels. Whoever places channels heeds
// it. False: there is no such slot.
func (p *Pool) Drain(slot ident.Slot, on bool) bool {
	k := p.keeper(slot)
	if k == nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.info.Draining = on
	return true
}

// SocketPath is the path of a slot's control socket.
func (p *Pool) SocketPath(slot ident.Slot) string { return socketPath(p.cfg.RunDir, slot) }

// IsSocketName reports whether a file of that name in a run directory is a worker's socket.
func IsSocketName(name string) bool {
	base, isSocket := strings.CutSuffix(name, ".sock")
	if !isSocket {
		base, isSocket = strings.CutSuffix(name, adoptExt)
	}
	number, isWorker := strings.CutPrefix(base, "worker-")
	slot, err := strconv.Atoi(number)
	// The quarantine's slot follows those of the pool.
	return isSocket && isWorker && err == nil && slot >= 0 && slot <= maxSlots && strconv.Itoa(slot) == number
}

func socketPath(runDir string, slot ident.Slot) string {
	return filepath.Join(runDir, fmt.Sprintf("worker-%d.sock", slot))
}

// assignment is what a new process of the slot is told.
func (p *Pool) assignment(slot ident.Slot, generation ident.Generation, epoch ident.Epoch) handoff.Assign {
	return handoff.Assign{
		Slot: slot, Generation: generation, Epoch: epoch, Socket: p.SocketPath(slot),
		AdoptSocket: adoptPath(p.cfg.RunDir, strconv.Itoa(int(slot))), LogLevel: p.cfg.LogLevel,
		OrphanTimeout: int64(p.cfg.OrphanTimeout), MaxWait: int64(p.cfg.MaxWait), NoSegmentation: p.cfg.NoSegmentation,
		Padding: p.cfg.Padding,
		Files:   p.cfg.Sockets[slot].Names,
	}
}

// keepSpare keeps one started process ready and hands it to the keeper that asks.
func (p *Pool) keepSpare(ctx context.Context) {
	policy := newRestartPolicy(p.cfg.RestartBurst)
	for ctx.Err() == nil {
		c, err := p.spawn(ctx, p.program.Load(), -1)
		began, lived, least := time.Now(), time.Duration(0), backoffBase
		if err == nil {
			p.log.Debug("spare worker ready", slog.Int(obs.KeyPID, c.pid()))
			select {
			case p.spares <- c:
				continue
			case <-p.stale:
				c.stop(p.cfg.StopTimeout, p.cfg.Hurry)
				continue
			case <-c.exited:
				lived, least = time.Since(began), 0
				err = fmt.Errorf("spare worker ended: %s: %w", c.cause(), errs.ErrUnavailable)
				c.kill()
			case <-ctx.Done():
				c.stop(p.cfg.StopTimeout, p.cfg.Hurry)
				return
			}
		}
		if ctx.Err() != nil {
			return
		}
		p.log.Warn("no spare worker", obs.Err(err))
		pause(ctx, max(policy.ended(time.Now(), lived), least))
	}
}

// takeSpare returns the spare, nil when there is none ready. One that is kept from running
// would let the slot wait: it is ended.
func (p *Pool) takeSpare() *child {
	select {
	case c := <-p.spares:
		if stopped(c.pid()) || keptFromRunning(vitalsOf(c.pid(), allThreads), false) {
			p.log.Warn("spare worker does not run", slog.Int(obs.KeyPID, c.pid()))
			p.reapers.Go(c.kill)
			return nil
		}
		return c
	default:
		return nil
	}
}

// pause waits, or returns early when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
