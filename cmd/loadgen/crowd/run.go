package crowd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"

	"github.com/dspeak/sfu/cmd/loadgen/load"
	"github.com/dspeak/sfu/internal/errs"
)

// pollEvery is the time between two looks at what everyone sees.
const pollEvery = 10 * time.Millisecond

// run is one measurement.
type run struct {
	cfg     Config
	host    string
	channel string
	media   *load.Clients
	watched *bystander
	users   []*user

	readers sync.WaitGroup
	buffers sync.Pool
	texts   sync.Pool
	delayed atomic.Uint64

	mu       sync.Mutex
	speaking map[*user]uint32 // with real media, and their SSRCs; guarded by mu
}

// Run measures.
func Run(ctx context.Context, cfg Config) (report Report, err error) {
	if err := cfg.Validate(); err != nil {
		return report, err
	}
	address, _ := url.Parse(cfg.URL) // Validate has
	r := &run{cfg: cfg, host: address.Host, channel: cfg.Prefix + "-crowd", speaking: map[*user]uint32{}}
	r.texts.New = func() any { return &bytes.Buffer{} }
	if r.media, err = load.NewClients(); err != nil {
		return report, err
	}
	inner, stop := context.WithCancel(ctx)
	var parts sync.WaitGroup
	parts.Go(func() { _ = r.media.Run(inner) }) // its faults show as silence
	defer func() {
		stop()
		r.closeAll()
		parts.Wait()
	}()
	if r.watched, err = startBystander(inner, cfg.URL, cfg.Prefix+"-bystander"); err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, r.watched.stop()) }()
	parts.Go(func() { r.speak(inner) })
	for i := range cfg.Users {
		r.users = append(r.users, &user{run: r, number: i, name: fmt.Sprintf("%s-%05d", cfg.Prefix, i), found: make(chan string, cfg.Speakers)})
	}
	err = r.phases(inner, &report)
	report.Users, report.Delayed = cfg.Users, r.delayed.Load()
	return report, err
}

// phases runs all phases that are wanted, up to the first that fails.
func (r *run) phases(ctx context.Context, report *Report) error {
	type phase struct {
		name   string
		wanted bool
		each   func(*user) func(context.Context) error
		shows  int // users that everyone sees in the end
	}
	for _, p := range []phase{
		{"join", true, func(u *user) func(context.Context) error { return u.join }, r.cfg.Users},
		{"unmute", r.cfg.Unmute, func(u *user) func(context.Context) error { return u.unmute }, r.cfg.Users},
		{"reconnect", r.cfg.Reconnect, func(u *user) func(context.Context) error { return u.reconnect }, r.cfg.Users},
		{"leave", r.cfg.Leave > 0, func(u *user) func(context.Context) error { return u.leave }, 0},
	} {
		if !p.wanted {
			continue
		}
		if p.name == "reconnect" {
			r.closeAll() // all at once
		}
		result, err := r.measure(ctx, p.name, p.each, p.shows)
		report.Phases = append(report.Phases, result)
		if err != nil {
			return err
		}
	}
	return nil
}

// speakers first: who listens waits for them anyway.
func (r *run) measure(ctx context.Context, name string, each func(*user) func(context.Context) error, shows int) (Phase, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	if _, err := r.watched.lap(); err != nil {
		return Phase{}, err
	}
	before, err := r.reading()
	if err != nil {
		return Phase{}, err
	}
	began := time.Now()
	p := Phase{Name: name}
	faults := r.all(ctx, each)
	p.Took, p.Failures = time.Since(began), len(faults)
	done, err := r.reading()
	if err != nil {
		return p, err
	}
	p.JoinCPU = done.cpu - before.cpu
	if p.Waits, err = r.watched.lap(); err != nil {
		return p, err
	}
	settled := r.await(ctx, func() bool { return r.settled(shows) })
	p.Settled = time.Since(began)
	after, err := r.reading()
	if err != nil {
		return p, err
	}
	p.count(before, after, r.cfg.Users)
	if p.SettleWaits, err = r.watched.lap(); err != nil {
		return p, err
	}
	return p, errors.Join(errors.Join(faults[:min(len(faults), 3)]...), settled)
}

// all runs a phase's part of each user, at the wanted rate, and returns what failed.
func (r *run) all(ctx context.Context, each func(*user) func(context.Context) error) []error {
	var parts sync.WaitGroup
	var mu sync.Mutex
	var faults []error
	began := time.Now()
	for i, u := range r.users {
		if r.cfg.Rate > 0 {
			due := began.Add(time.Duration(i) * time.Second / time.Duration(r.cfg.Rate))
			select {
			case <-time.After(time.Until(due)):
			case <-ctx.Done():
			}
		}
		parts.Go(func() {
			if err := each(u)(ctx); err != nil {
				mu.Lock()
				defer mu.Unlock()
				faults = append(faults, fmt.Errorf("user %s: %w", u.name, err))
			}
		})
	}
	parts.Wait()
	return faults
}

// settled reports whether everyone sees everyone, and is heard by those who hear.
func (r *run) settled(shows int) bool {
	for _, u := range r.users {
		if shows > 0 && !u.sees(shows, r.cfg.producers()) {
			return false
		}
		if shows > 0 && r.cfg.hears(u.number) && u.heard.Load() == 0 {
			return false
		}
	}
	return true
}

func (r *run) await(ctx context.Context, met func() bool) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !met() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			behind := 0
			for _, u := range r.users {
				if !u.sees(r.cfg.Users, r.cfg.producers()) {
					behind++
				}
			}
			return fmt.Errorf("%d users do not see everyone: %w", behind, errs.ErrUnavailable)
		}
	}
	return nil
}

// unmute produces anew, which ends the former producer.
func (u *user) unmute(ctx context.Context) error {
	if !u.run.cfg.speaks(u.number) {
		return nil
	}
	return u.produce(ctx)
}

// reconnect comes back after the socket was lost.
func (u *user) reconnect(ctx context.Context) error {
	s, err := u.dial(ctx)
	if err != nil {
		return err
	}
	u.socket = s
	return s.awaitGreeting(ctx)
}

// leave closes the socket and waits.
func (u *user) leave(ctx context.Context) error {
	u.socket.close()
	select {
	case <-time.After(u.run.cfg.Leave):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// closeAll breaks all sockets.
func (r *run) closeAll() {
	for _, u := range r.users {
		if u.socket != nil {
			_ = u.socket.conn.Close()
		}
	}
	for _, u := range r.users {
		if u.socket != nil {
			u.socket.close()
		}
	}
	r.readers.Wait()
}

// speak sends silence for the real speakers until ctx ends.
func (r *run) speak(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var buf, plain []byte
	for sequence := uint16(0); ; sequence++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		speaking := maps.Clone(r.speaking)
		r.mu.Unlock()
		for u, ssrc := range speaking {
			header := rtp.Header{Version: 2, PayloadType: 111, SequenceNumber: sequence, Timestamp: uint32(sequence) * 960, SSRC: ssrc}
			raw, err := header.Marshal()
			if err != nil {
				return
			}
			plain = append(append(plain[:0], raw...), 0xf8, 0xff, 0xfe)
			if buf, err = u.link.Protect(buf[:0], plain, &header); err == nil {
				u.link.Write(buf)
			}
		}
	}
}
