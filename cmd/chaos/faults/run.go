package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dspeak/sfu/cmd/loadgen/load"
	"github.com/dspeak/sfu/internal/errs"
)

const (
	// gatherTimeout bounds the time until everyone hears everyone.
	gatherTimeout = time.Minute
)

// Run makes the call, plays all faults and returns what was noticed. An error means
// that the run itself failed; Report.OK says whether the servers passed. GOMAXPROCS
// should be 4 or more: two goroutines hold a processor each while they wait.
func Run(ctx context.Context, cfg Config) (Report, error) {
	if err := cfg.Validate(); err != nil {
		return Report{}, err
	}
	log, err := openLog(cfg.Log)
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = log.Close() }()
	reaper, err := newReaper()
	if err != nil {
		return Report{}, err
	}
	reaping, stopReaping := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReaping()
	reaped := make(chan struct{})
	go func() { reaper.run(reaping); close(reaped) }()
	server, err := newServer(cfg, log, reaper)
	if err != nil {
		return Report{}, err
	}
	clients, err := load.NewClients()
	if err != nil {
		return Report{}, errors.Join(append(server.stop(ctx), err)...)
	}
	n := &notes{say: cfg.Say}
	r := &run{cfg: cfg, server: server, clients: clients, notes: n, call: newCall(cfg, server.url("ws")+"/socket", clients, n)}
	report, err := r.play(ctx)
	for _, fault := range server.stop(ctx) {
		n.error(fault)
	}
	stopReaping()
	<-reaped
	report.finish(r)
	return report, err
}

// openLog opens the file for the servers' output. They get the file itself, not a
// pipe of this process.
func openLog(name string) (*os.File, error) {
	if name == "" {
		name = os.DevNull
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600) //nolint:gosec // the user names it
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return f, nil
}

// run is one run.
type run struct {
	cfg     Config
	server  *server
	clients *load.Clients
	call    *call
	notes   *notes
	began   time.Time

	conductor     *conductor
	before, after State
	elapsed       time.Duration
}

// play starts the server and everyone, and waits for all of them.
func (r *run) play(ctx context.Context) (Report, error) {
	r.began = time.Now()
	if _, err := r.server.start(ctx); err != nil {
		return Report{}, err
	}
	// Who receives and sends goes on until the users have left.
	media, stopMedia := context.WithCancel(context.WithoutCancel(ctx))
	defer stopMedia()
	playing := errgroup.Group{}
	playing.Go(func() error { return r.clients.Run(media) })
	playing.Go(func() error { return r.call.pacer.run(media) })
	users, leave := context.WithCancel(ctx)
	defer leave()
	group, users := errgroup.WithContext(users)
	for _, u := range r.call.users {
		group.Go(func() error { return u.run(users) })
	}
	err := r.conduct(users)
	leave()
	err = errors.Join(err, group.Wait())
	if err == nil {
		r.notes.error(r.server.empty(ctx))
	}
	stopMedia()
	err = errors.Join(err, playing.Wait())
	r.elapsed = time.Since(r.began)
	if errors.Is(err, errFatal) { // the report says so
		r.notes.error(err)
		err = nil
	}
	return Report{}, err
}

// conduct waits until all are there, strikes, and looks for leaks.
func (r *run) conduct(ctx context.Context) error {
	err := await(ctx, gatherTimeout, func() error {
		pairs := r.call.pairs(time.Now())
		if here := r.call.here(); here < len(r.call.users)-r.cfg.Restless || len(pairs) < r.leastPairs() {
			return fmt.Errorf("%d of %d users are in the call, %d pairs: %w", here, len(r.call.users), len(pairs), errs.ErrUnavailable)
		}
		return complaint(unheard(pairs, r.call.pacer.slot.Load()-int64(settled/packetTime)))
	})
	if err != nil {
		return fmt.Errorf("%w: the call does not come about: %w", errFatal, err)
	}
	if r.before, err = r.server.state(ctx); err != nil {
		return err
	}
	r.conductor = &conductor{
		cfg: r.cfg, server: r.server, call: r.call, notes: r.notes,
		random: rand.New(rand.NewPCG(r.cfg.Seed, 1)), //nolint:gosec // repeatable, not secret
	}
	if err := r.conductor.conduct(ctx); err != nil {
		return err
	}
	r.after, err = r.server.notGrown(ctx, r.before, r.cfg.Restless)
	r.notes.error(err)
	return nil
}

// leastPairs is how many pairs there are among those who stay.
func (r *run) leastPairs() int {
	stay := r.cfg.Users
	if r.cfg.Restless > 0 {
		stay = r.cfg.Users / 2
	}
	return r.cfg.Channels * stay * (stay - 1)
}
