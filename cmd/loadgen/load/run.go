package load

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dspeak/sfu/internal/errs"
)

// settleTime is how long packets on their way are awaited after the last one was sent.
const settleTime = 500 * time.Millisecond

// run is one load run.
type run struct {
	cfg          Config
	engine       *engine
	users        []*user
	speakers     map[string]*speaker // by user; constant while users run
	fingerprints []fingerprint
	joined       atomic.Int64
	before       usage
}

// Run joins all users, sends, counts, leaves, and returns what was measured. The
// first failure of a user ends the run with an error.
func Run(ctx context.Context, cfg Config) (Report, error) {
	if err := cfg.Validate(); err != nil {
		return Report{}, err
	}
	engine, err := newEngine()
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
				u.speaker = newSpeaker(r.cfg)
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
	var sendErr error
	if sendErr = r.sendAll(stay, &report); sendErr == nil {
		r.settle(stay)
	}
	leave()
	return report, errors.Join(group.Wait(), sendErr)
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

func (r *run) sendAll(ctx context.Context, report *Report) error {
	p := &pacer{cfg: r.cfg}
	for _, u := range r.users {
		if u.speaker != nil {
			p.speakers = append(p.speakers, u.speaker)
		}
	}
	err := p.run(ctx, func() (err error) {
		r.before, err = readUsage(r.cfg.PIDs)
		return err
	})
	report.PacerLate = p.late
	if err != nil {
		return err
	}
	after, err := readUsage(r.cfg.PIDs)
	if err != nil {
		return err
	}
	report.WorkerCPU = after.cpu - r.before.cpu
	report.WorkerResident = after.resident
	return nil
}

// settle waits for the packets that are still on their way.
func (r *run) settle(ctx context.Context) {
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func makeClock(packets int) []atomic.Int64 { return make([]atomic.Int64, packets) }
