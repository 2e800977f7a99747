package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dspeak/sfu/internal/errs"
)

// run is one load run.
type run struct {
	cfg          Config
	engine       *engine
	users        []*user
	speakers     map[string]*speaker // by user; constant while users run
	fingerprints []fingerprint
	joined       atomic.Int64
	rounds       []Round
}

// Run joins all users, sends, counts, leaves, and returns what was measured. The
// first failure of a user ends the run with an error. With Config.CPU the whole
// process stays pinned afterwards. GOMAXPROCS should be 4 or more: the engine and
// the pacer hold a processor each while their threads wait.
func Run(ctx context.Context, cfg Config) (Report, error) {
	if err := cfg.Validate(); err != nil {
		return Report{}, err
	}
	if cfg.CPU != NoCPU {
		if err := pin(cfg.CPU); err != nil {
			return Report{}, err
		}
	}
	engine, err := newEngine(cfg)
	if err != nil {
		return Report{}, err
	}
	r := &run{cfg: cfg, engine: engine, speakers: map[string]*speaker{}, fingerprints: engine.fingerprints}
	r.makeUsers()
	engineCtx, stopEngine := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEngine()
	ended := make(chan error, 1)
	go func() { ended <- engine.run(engineCtx) }()
	report, err := r.execute(ctx)
	stopEngine()
	if err = errors.Join(err, <-ended); err != nil {
		return Report{}, err
	}
	r.fill(&report) // the engine has ended: its counts are ours now
	return report, nil
}

func (r *run) makeUsers() {
	for c := range r.cfg.Channels {
		channel := fmt.Sprintf("%s-channel-%d", r.cfg.Prefix, c)
		for i := range r.cfg.Speakers + r.cfg.Listeners {
			u := &user{run: r, channel: channel, name: fmt.Sprintf("%s-%d", channel, i), seen: map[string]bool{}}
			if i < r.cfg.Speakers {
				u.speaker = newSpeaker(r.cfg, u.name)
				r.speakers[u.name] = u.speaker
				if r.cfg.SpeakersListen {
					u.hears = r.cfg.Speakers - 1
				}
			} else {
				u.hears = r.cfg.Speakers
			}
			r.users = append(r.users, u)
		}
	}
}

// execute runs the users and the pacer.
func (r *run) execute(ctx context.Context) (Report, error) {
	var report Report
	stay, leave := context.WithCancel(ctx)
	defer leave()
	group, stay := errgroup.WithContext(stay)
	ready := make(chan struct{})
	before, err := readUsage(r.cfg.PIDs)
	if err != nil {
		return report, err
	}
	began := time.Now()
	joinCtx, cancel := context.WithTimeoutCause(stay, r.cfg.JoinTimeout, fmt.Errorf("join within %s: %w", r.cfg.JoinTimeout, errs.ErrUnavailable))
	defer cancel()
	r.startUsers(joinCtx, stay, group, ready)
	select {
	case <-ready:
	case <-joinCtx.Done():
		leave()
		return report, errors.Join(group.Wait(), context.Cause(joinCtx))
	}
	report.JoinTime = time.Since(began)
	after, sendErr := readUsage(r.cfg.PIDs)
	report.Join = joinReport(r.transports(), report.JoinTime, before, after)
	if sendErr == nil && r.cfg.Idle > 0 {
		report.Idle, sendErr = r.idle(stay, before)
	}
	if sendErr == nil {
		sendErr = r.sendAll(stay, &report)
	}
	leave()
	return report, errors.Join(group.Wait(), sendErr)
}

// transports is how many transports the joined users have.
func (r *run) transports() int {
	n := len(r.speakers)
	for _, u := range r.users {
		if u.recv != nil {
			n++
		}
	}
	return n
}

// startUsers starts every user's goroutine at the join rate; ready is closed
// when all have joined.
func (r *run) startUsers(joinCtx, stay context.Context, group *errgroup.Group, ready chan struct{}) {
	group.Go(func() error {
		var tick <-chan time.Time
		if r.cfg.JoinRate > 0 {
			ticker := time.NewTicker(time.Second / time.Duration(r.cfg.JoinRate))
			defer ticker.Stop()
			tick = ticker.C
		}
		for _, u := range r.users {
			if tick != nil {
				select {
				case <-tick:
				case <-joinCtx.Done():
					return nil // execute reports why
				}
			}
			group.Go(func() error {
				if err := u.join(joinCtx); err != nil {
					return err
				}
				if r.joined.Add(1) == int64(len(r.users)) {
					close(ready)
				}
				return u.stay(stay)
			})
		}
		return nil
	})
}

// sendAll lets everyone speak and measures.
func (r *run) sendAll(ctx context.Context, report *Report) (err error) {
	var speakers []*speaker
	for _, u := range r.users {
		if u.speaker != nil {
			speakers = append(speakers, u.speaker)
		}
	}
	pacer, err := newPacer(r.cfg, speakers, r.engine.windows)
	if err != nil {
		return err
	}
	c := conductor{cfg: r.cfg, engine: r.engine, pacer: pacer}
	if r.cfg.Floor {
		if c.floor, err = r.startFloor(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.floor.close()) }()
	}
	err = r.conduct(ctx, &c, report)
	r.rounds = c.rounds
	r.engine.reports.SenderReportsSent = pacer.reports
	report.PacerLate, report.PacerLateP99 = pacer.late.highest, pacer.late.quantile(0.99)
	if err != nil {
		return err
	}
	end, err := readUsage(r.cfg.PIDs)
	report.WorkerResident = end.resident
	return err
}

// conduct lets the conductor play, and times control calls meanwhile if asked to.
func (r *run) conduct(ctx context.Context, c *conductor, report *Report) error {
	if r.cfg.Control == "" {
		return c.conduct(ctx)
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	group := errgroup.Group{}
	group.Go(func() (err error) {
		report.Control, err = watchControl(watching, r.cfg.Control)
		return err
	})
	err := c.conduct(ctx)
	stop()
	return errors.Join(err, group.Wait())
}

// startFloor starts this program once more as the bare sending loop, which sends
// to the address that the worker's packets go to.
func (r *run) startFloor(ctx context.Context) (*floor, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	o := floorOptions{cfg: r.cfg, command: []string{program, FloorCommand}, engine: r.engine}
	for _, u := range r.users {
		if u.recv == nil {
			continue
		}
		local, err := localAddress(u.recv.fd)
		if err != nil {
			return nil, err
		}
		o.bind = local.Addr()
		break
	}
	return startFloor(ctx, o)
}

func makeClock(packets int) []atomic.Int64 { return make([]atomic.Int64, packets) }
