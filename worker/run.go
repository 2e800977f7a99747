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
	"github.com/dspeak/sfu/worker/handshake"
	"github.com/dspeak/sfu/worker/netio"
	"github.com/dspeak/sfu/worker/rtc"
)

const (
	// processors: one for the locked media loop, one for the control side.
	processors = 2
	// lossInterval is how often the loop is asked whether it lost events.
	lossInterval = time.Second
)

// Run is a worker's whole life: hello, waiting for a slot, serving, and the end,
// when ctx ends or nobody needs the worker any more. level is set by the
// supervisor's settings. An error that wraps errs.ErrInvalid means that the same
// settings would fail again.
func Run(ctx context.Context, conn *handoff.Conn, log *slog.Logger, level *slog.LevelVar) error {
	runtime.GOMAXPROCS(processors)
	hello := handoff.Message{Hello: &handoff.Hello{Protocol: handoff.Protocol, PID: os.Getpid()}}
	if err := conn.Send(hello); err != nil {
		return err
	}
	assign, files, err := awaitAssign(ctx, conn)
	if err != nil || assign == nil {
		return err
	}
	w, err := newWorker(ctx, assign, files, log, level)
	if err != nil {
		failed := handoff.Message{Failed: &handoff.Failed{Reason: err.Error()}}
		return errors.Join(err, conn.Send(failed))
	}
	return w.serve(ctx, conn)
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
	log    *slog.Logger
	loop   *rtc.Loop
	server *server
	orphan time.Duration
}

func newWorker(ctx context.Context, a *handoff.Assign, files []*os.File, log *slog.Logger, level *slog.LevelVar) (*worker, error) {
	if err := level.UnmarshalText([]byte(a.LogLevel)); err != nil {
		return nil, errors.Join(fmt.Errorf("log level %q: %w", a.LogLevel, errs.ErrInvalid), closeAll(files))
	}
	server, err := newServer(ctx, a.Socket)
	if err != nil {
		return nil, errors.Join(err, closeAll(files))
	}
	loop, err := newLoop(a, files, log)
	if err != nil {
		return nil, errors.Join(err, server.close())
	}
	server.control(loop)
	return &worker{assign: a, log: log, loop: loop, server: server, orphan: time.Duration(a.OrphanTimeout)}, nil
}

// newLoop makes the media loop on the sockets that came with the settings; their
// files are closed in any case.
func newLoop(a *handoff.Assign, files []*os.File, log *slog.Logger) (*rtc.Loop, error) {
	sockets, err := openSockets(files, a.NoSegmentation)
	if err = errors.Join(err, closeAll(files)); err != nil {
		return nil, errors.Join(err, closeSockets(sockets))
	}
	cfg, err := loopConfig(a, log)
	if err != nil {
		return nil, errors.Join(err, closeSockets(sockets))
	}
	loop, err := rtc.New(cfg, sockets)
	if err != nil {
		return nil, errors.Join(err, closeSockets(sockets))
	}
	return loop, nil
}

// loopConfig is the only place where the worker's certificate is made: a transport
// that another process made first would bring its own here.
func loopConfig(a *handoff.Assign, log *slog.Logger) (rtc.Config, error) {
	announced, err := parseAnnounced(a.Announced)
	if err != nil {
		return rtc.Config{}, err
	}
	certificate, _, err := handshake.NewCertificate()
	if err != nil {
		return rtc.Config{}, err
	}
	return rtc.Config{
		Slot: a.Slot, Generation: a.Generation, PID: os.Getpid(), Announced: announced,
		Certificate: certificate, MaxWait: time.Duration(a.MaxWait), Padding: rtc.Padding(a.Padding), Log: log,
	}, nil
}

func closeAll(files []*os.File) error {
	var faults []error
	for _, f := range files {
		faults = append(faults, f.Close())
	}
	return errors.Join(faults...)
}

// openSockets wraps the inherited descriptors, which netio duplicates.
func openSockets(files []*os.File, noSegmentation bool) (rtc.Sockets, error) {
	s := rtc.Sockets{Counters: &rtc.SocketCounters{}}
	count := s.Counters
	for _, f := range files {
		var err error
		switch f.Name() {
		case handoff.FileUDP4:
			s.UDP4, err = netio.NewUDP(int(f.Fd()), netio.UDPOptions{NoOffload: noSegmentation, Counters: &count.UDP4})
		case handoff.FileUDP6:
			s.UDP6, err = netio.NewUDP(int(f.Fd()), netio.UDPOptions{NoOffload: noSegmentation, Counters: &count.UDP6})
		case handoff.FileTCP4:
			s.TCP4, err = netio.NewTCPListener(int(f.Fd()), netio.TCPOptions{Counters: &count.TCP4})
		case handoff.FileTCP6:
			s.TCP6, err = netio.NewTCPListener(int(f.Fd()), netio.TCPOptions{Counters: &count.TCP6})
		default:
			err = fmt.Errorf("handoff file %q: %w", f.Name(), errs.ErrInvalid)
		}
		if err != nil {
			return s, fmt.Errorf("media socket %s: %w", f.Name(), err)
		}
	}
	return s, nil
}

func closeSockets(s rtc.Sockets) error {
	var faults []error
	for _, u := range []netio.UDP{s.UDP4, s.UDP6} {
		if u != nil {
			faults = append(faults, u.Close())
		}
	}
	for _, l := range []*netio.TCPListener{s.TCP4, s.TCP6} {
		if l != nil {
			faults = append(faults, l.Close())
		}
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

// serve runs all parts until ctx ends or the worker is an orphan without users.
func (w *worker) serve(ctx context.Context, conn *handoff.Conn) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.loop.Run(ctx) })
	group.Go(func() error { releaseMemory(ctx, w.loop, w.log); return nil })
	group.Go(func() error { w.server.events.run(w.loop.Events()); return nil })
	group.Go(func() error { w.reportLosses(ctx); return nil })
	group.Go(func() error { return w.server.serve(ctx) })
	group.Go(func() error { w.server.reportHealth(ctx, w.loop.LastTurn); return nil })
	group.Go(func() error {
		defer stop()
		if err := conn.Send(handoff.Message{Ready: &handoff.Ready{}}); err != nil {
			return err
		}
		w.log.Info("worker serves", slog.String("socket", w.assign.Socket))
		w.outliveSupervisor(ctx, conn)
		return nil
	})
	err := group.Wait()
	w.log.Info("worker ended")
	return err
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
