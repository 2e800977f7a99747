package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/ledgerfile"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/monitor"
	"github.com/dspeak/sfu/worker/rtc"
)

const (
	// processors: one for the locked media loop, one for the control side.
	processors = 2
	// lossInterval is how often the loop is asked whether it lost events.
	lossInterval = time.Second
)

// Process is what a worker has before it has a slot.
type Process struct {
	// Conn is the connection to the supervisor that started it.
	Conn *handoff.Conn
	Log  *slog.Logger
	// Level is set by the supervisor's settings.
	Level *slog.LevelVar
	// Pipe is what Log writes to; an adopting supervisor brings another. May be nil.
	Pipe *LogPipe
}

// Run is a worker's whole life: hello, waiting for a slot, serving, and the end, when
// ctx ends, a successor is to go on, or nobody needs the worker any more. An error
// that wraps errs.ErrInvalid means that the same settings would fail again.
func Run(ctx context.Context, p Process) error {
	runtime.GOMAXPROCS(processors)
	if err := monitor.Calm(); err != nil {
		p.Log.Info("the runtime's monitor interrupts the media loop", obs.Err(err))
	}
	if err := refuseHugePages(); err != nil {
		p.Log.Info("the worker takes more memory than it needs", obs.Err(err))
	}
	if err := volunteerForOOM(); err != nil {
		p.Log.Info("the supervisor may be killed before this worker when memory runs out", obs.Err(err))
	}
	collect := warmHeap()
	hello := handoff.Message{Hello: &handoff.Hello{
		Protocol: handoff.Protocol, PID: os.Getpid(), Layout: ledger.Layout, Version: handoff.Version(),
	}}
	if err := p.Conn.Send(hello); err != nil {
		return err
	}
	assign, files, err := awaitAssign(ctx, p.Conn)
	if err != nil || assign == nil {
		return err
	}
	defer func() { _ = closeAll(files) }() // nothing was written to them
	var w *worker
	rtc.Urgently(func() { w, err = newWorker(p, assign, files) })
	collect(!assign.Takeover)
	if err != nil {
		failed := handoff.Message{Failed: &handoff.Failed{Reason: err.Error()}}
		return errors.Join(err, p.Conn.Send(failed))
	}
	return w.serve(ctx, p.Conn)
}

// awaitAssign waits for the settings. No settings and no error: the supervisor
// has no use for this worker.
func awaitAssign(ctx context.Context, conn *handoff.Conn) (*handoff.Assign, []*os.File, error) {
	m, files, err := conn.Receive(ctx)
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		return nil, nil, nil
	}
	if err == nil && m.Assign == nil {
		err = fmt.Errorf("handoff: settings expected: %w", errs.ErrInvalid)
	}
	return m.Assign, files, err
}

// worker is the process once it has its slot.
type worker struct {
	assign *handoff.Assign
	files  []*os.File // that came with assign; an adopting supervisor gets copies
	log    *slog.Logger
	pipe   *LogPipe
	loop   *rtc.Loop
	header *ledgerfile.Header // nil without a ledger
	ready  handoff.Ready
	server *server
	orphan time.Duration
}

// newWorker brings the media loop to where it can run: with the state of the ledger, if
// it takes a slot over.
func newWorker(p Process, a *handoff.Assign, files []*os.File) (*worker, error) {
	if err := p.Level.UnmarshalText([]byte(a.LogLevel)); err != nil {
		return nil, fmt.Errorf("log level %q: %w", a.LogLevel, errs.ErrInvalid)
	}
	w := &worker{assign: a, files: files, log: p.Log, pipe: p.Pipe, orphan: time.Duration(a.OrphanTimeout)}
	began := time.Now()
	state, err := openLedger(a, files, p.Log)
	if err != nil {
		return nil, err
	}
	cfg, err := loopConfig(a, len(files), state, p.Log)
	if err != nil {
		return nil, err
	}
	sockets, err := openSockets(files, a.NoSegmentation)
	if err != nil {
		return nil, errors.Join(err, closeSockets(sockets))
	}
	openAsides(&sockets, p.Log)
	if w.loop, err = rtc.New(cfg, sockets); err != nil {
		return nil, errors.Join(err, closeSockets(sockets))
	}
	if state != nil {
		w.header = state.Header()
	}
	if a.Takeover {
		r := w.loop.Resumed()
		w.ready.Resumed = &handoff.Resumed{
			Routers: r.Routers, Transports: r.Transports, Producers: r.Producers, Consumers: r.Consumers,
			Dropped: r.Dropped, Duration: int64(time.Since(began)),
		}
	}
	return w, nil
}

func loopConfig(a *handoff.Assign, files int, state *ledger.Ledger, log *slog.Logger) (rtc.Config, error) {
	announced, err := parseAnnounced(a.Announced)
	if err != nil {
		return rtc.Config{}, err
	}
	certificate, err := certificateOf(state)
	if err != nil {
		return rtc.Config{}, err
	}
	return rtc.Config{
		Slot: a.Slot, Generation: a.Generation, Epoch: a.Epoch, PID: os.Getpid(), Announced: announced,
		Certificate: certificate, MaxWait: time.Duration(a.MaxWait), Padding: rtc.Padding(a.Padding),
		Ledger: state, SkipRouters: a.SkipRouters, Limits: rtc.Limits{TCPConnections: tcpConnections(files)}, Log: log,
	}, nil
}

func closeAll(files []*os.File) error {
	var faults []error
	for _, f := range files {
		faults = append(faults, f.Close())
	}
	return errors.Join(faults...)
}

func parseAnnounced(in []string) ([]netip.AddrPort, error) {
	out := make([]netip.AddrPort, len(in))
	for i, text := range in {
		a, err := netip.ParseAddrPort(text)
		if err != nil {
			return nil, fmt.Errorf("announced address %q: %w", text, errs.ErrInvalid)
		}
		out[i] = a
	}
	return out, nil
}

// serve runs all parts until ctx ends, a successor is to go on, or the worker is an
// orphan without users. The media go first: every part that follows may take its time.
func (w *worker) serve(ctx context.Context, conn *handoff.Conn) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	part := func(run func() error) {
		group.Go(func() error {
			err := run()
			if err != nil {
				w.loop.Keep() // as after a crash: a successor may do better
			}
			return err
		})
	}
	part(func() error { return w.loop.Run(ctx) })
	if err := w.listen(); err != nil {
		w.loop.Keep()
		stop()
		failed := handoff.Message{Failed: &handoff.Failed{Reason: err.Error()}}
		return errors.Join(err, conn.Send(failed), group.Wait())
	}
	part(func() error { releaseMemory(ctx, w.loop, w.log); return nil })
	part(func() error { w.server.events.run(w.loop.Events()); return nil })
	part(func() error { w.reportLosses(ctx); return nil })
	part(func() error { return w.server.serve(ctx) })
	part(func() error { w.server.reportHealth(ctx, w.loop.LastTurn, w.beat); return nil })
	part(func() error {
		defer stop()
		return w.obey(ctx, conn)
	})
	err := group.Wait()
	w.log.Info("worker ended")
	return err
}

// listen makes the control side.
func (w *worker) listen() error {
	server, err := newServer(w.assign.Socket)
	if err != nil {
		return err
	}
	server.control(w.loop)
	w.server = server
	return nil
}

// beat tells the supervisor that the control side moves.
func (w *worker) beat() {
	if w.header != nil {
		w.header.BeatControl(ledgerfile.Now())
	}
}

// reportLosses ends the watchers when the loop had events that nobody could get:
// they must look at the whole state again.
func (w *worker) reportLosses(ctx context.Context) {
	ticker := time.NewTicker(lossInterval)
	defer ticker.Stop()
	var known uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		usage, err := w.loop.Usage(ctx)
		if err == nil && usage.EventsLost != known {
			known = usage.EventsLost
			w.log.Warn("events lost, watchers must watch anew", slog.Uint64("events", known))
			w.server.events.endAll(fmt.Errorf("events lost: %w", errs.ErrExhausted))
		}
	}
}
