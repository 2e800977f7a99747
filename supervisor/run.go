package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dspeak/sfu/internal/config"
	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/interop"
	interopwire "github.com/dspeak/sfu/interop/wire"
	"github.com/dspeak/sfu/signaling"
	"github.com/dspeak/sfu/signaling/wire"
	"github.com/dspeak/sfu/supervisor/process"
	"github.com/dspeak/sfu/supervisor/service"
)

const (
	// flushTimeout bounds how long sockets may take to end at a stop.
	flushTimeout = 3 * time.Second
	// startTimeout is how long the public port waits for the first worker.
	startTimeout = 3 * time.Second
)

// Process is what a supervisor has from the one that started it.
type Process struct {
	Log *slog.Logger
	// Hurry ends the patience of a stop: it waits for nobody any more, workers are killed.
	Hurry context.Context //nolint:containedctx // it stands for a signal
	// Files were inherited from systemd or from the supervisor that this one replaces.
	Files *service.Files
	// Manager is told how the service is.
	Manager *service.Manager
	// Self is how this process replaces itself, Guard its way back until it serves.
	Self  *service.Self
	Guard *service.Guard
	// Upgrade asks for an upgrade with each message; nil never does.
	Upgrade <-chan struct{}
}

// supervisor is the process: its parts, in the order of their dependence.
type supervisor struct {
	Process

	cfg     config.Config
	log     *slog.Logger
	dir     *runDir
	remains []*process.Remains // of a former supervisor, until the pool has them
	media   *mediaSockets
	share   descriptors
	http    net.Listener
	// successor is the public port for the process that goes on; nil: none does.
	successor *os.File
	admin     net.Listener
	pool      *process.Pool
	backend   *backend
	upgrade   *upgrader
	sockets   *signaling.Server
	api       *interop.API  // nil without a main server
	link      *interop.Link // nil without a main server
}

// Run starts everything, serves until ctx ends, then stops in the reverse order
// and returns when no part and no process is left. Workers that a former supervisor
// left go on. A fault at the start is one error that says what to change, and nothing
// stays behind but such workers.
func Run(ctx context.Context, cfg config.Config, p Process) error {
	for {
		s, err := open(ctx, cfg, p)
		if ctx.Err() != nil && err != nil {
			return nil //nolint:nilerr // asked to stop before it served
		}
		if err != nil {
			return err
		}
		err = s.serve(ctx, p.Hurry)
		if s.successor == nil {
			return errors.Join(err, s.close())
		}
		if err != nil { // the workers were left: somebody must go on with them
			p.Log.Error("supervisor did not end well", obs.Err(err))
		}
		p.Files, err = s.handOver()
		if err != nil {
			return err
		}
	}
}

// open takes everything that can be occupied or refused.
func open(ctx context.Context, cfg config.Config, p Process) (s *supervisor, err error) {
	s = &supervisor{Process: p, cfg: cfg, log: p.Log}
	defer func() {
		if err != nil {
			_ = s.close() // the first fault is the one to tell
		}
	}()
	cpus := process.PlanCPUs()
	slots := workerCount(cfg, cpus)
	if err := cfg.CheckPorts(slots); err != nil {
		return s, err
	}
	if s.dir, err = openRunDir(cfg.RunDir, p.Files.Take(lockName)); err != nil {
		return s, err
	}
	if s.http, err = listenHTTP(ctx, cfg.HTTP, p.Files.Take(httpName)); err != nil {
		return s, err
	}
	if err := s.findRemains(ctx, slots, p.Files); err != nil {
		return s, err
	}
	if s.media, err = openMediaSockets(cfg.Media, slots, s.remains, s.log); err != nil {
		return s, err
	}
	if err := s.shareDescriptors(); err != nil {
		return s, err
	}
	if s.admin, err = handoff.ListenPath("unix", filepath.Join(s.dir.path, adminName)); err != nil {
		return s, fmt.Errorf("admin socket: %w", err)
	}
	if err := s.openPool(ctx, cpus); err != nil {
		return s, err
	}
	return s, s.wire()
}

func (s *supervisor) openPool(ctx context.Context, cpus process.CPUPlan) error {
	binary, err := workerProgram(s.cfg)
	if err != nil {
		return err
	}
	// Where calls go on from a former supervisor, their workers come first.
	if !slices.ContainsFunc(s.remains, (*process.Remains).GoesOn) {
		if err := process.CheckProgram(ctx, binary); err != nil {
			return err
		}
	}
	if len(cpus.Pin) == 0 && cpus.Quota > 0 {
		s.log.Info("workers are not pinned: the CPU quota is less than the allowed CPUs", slog.Float64("quota", cpus.Quota), slog.Int("allowed", len(cpus.Allowed)))
	}
	s.pool, err = process.NewPool(process.Config{
		Binary: binary, RunDir: s.dir.path, RestoreRunDir: s.dir.restore, Slots: len(s.media.slots), Reserve: s.media.reserve, CPUs: cpus.Pin, Allowed: cpus.Allowed, Spare: s.cfg.Workers.Spare,
		Sockets: s.media.slots, Remains: s.remains, LogLevel: s.cfg.Log.Level.String(), MaxWait: s.cfg.Media.MaxWait,
		NoSegmentation: s.cfg.Media.Segmentation == config.SegmentationOff, Padding: s.cfg.Media.Padding,
		OrphanTimeout: s.cfg.Workers.OrphanTimeout, StopTimeout: s.cfg.Workers.StopTimeout, Hurry: s.Hurry.Done(),
		Hold: s.hold, Release: s.release, Condemn: func(v process.Verdict) { s.backend.condemn(v) }, //nolint:contextcheck // clean-ups of a verdict outlast the start
		RestartBurst: s.cfg.Workers.RestartBurst,
		Health:       process.Health{Interval: 250 * time.Millisecond, Timeout: 500 * time.Millisecond, Failures: 4},
	}, s.log)
	return err
}

// wire connects the parts.
func (s *supervisor) wire() error {
	s.backend = &backend{
		registry: newRegistry(), crowds: newCrowds(), workers: s.pool, presence: silence{}, log: s.log,
		takeovers: newTakeovers(len(s.media.slots)), adoptions: newAdoptions(s.remains),
		addresses: newAddresses(s.cfg, s.media.served, s.log),
		grace:     s.cfg.Signaling.Grace, cooldown: s.cfg.Signaling.KickCooldown,
	}
	s.upgrade = &upgrader{
		backend: s.backend, pool: s.pool, self: s.Self, log: s.log, started: time.Now(), replace: make(chan struct{}),
	}
	var validator signaling.Validator
	if s.cfg.Interop.APIBaseURL != "" {
		var err error
		s.api, err = interop.NewAPI(interop.APIConfig{
			BaseURL: s.cfg.Interop.APIBaseURL, Timeout: s.cfg.Interop.Timeout, Connections: s.share.api, Log: s.log,
		})
		if err != nil {
			return err
		}
		s.link, err = interop.NewLink(interop.LinkConfig{BaseURL: s.cfg.Interop.WSBaseURL, Backend: s.backend, Log: s.log})
		if err != nil {
			return err
		}
		s.backend.presence, validator = s.link, s.api
	}
	c := s.cfg.Signaling
	s.sockets = signaling.NewServer(signaling.Config{
		Backend: s.backend, Validator: validator, Log: s.log,
		Limits: signaling.Limits{
			MessageBytes: int64(c.MessageBytes), Rate: c.Rate, Burst: c.Burst, PendingRequests: c.PendingRequests,
			SendQueue: c.SendQueue, WriteTimeout: c.WriteTimeout, HeartbeatInterval: c.HeartbeatInterval,
			HeartbeatTimeout: c.HeartbeatTimeout, ValidationTimeout: c.ValidationTimeout,
			Connections: s.share.sockets, ConnectionsPerAddress: c.ConnectionsPerAddress,
			AdmissionRate: c.AdmissionRate, AdmissionBurst: c.AdmissionBurst, AdmissionQueue: c.AdmissionQueue, AdmissionWait: c.AdmissionWait,
		},
		Origins: s.cfg.HTTP.Origins, TrustedProxies: s.cfg.HTTP.TrustedProxies, PublicURL: s.cfg.HTTP.PublicURL,
	})
	return nil
}

// serve runs all parts. Workers and the link outlive the sockets: what the sockets'
// end has to tell still arrives.
func (s *supervisor) serve(ctx, hurry context.Context) error {
	inner, stopInner := context.WithCancel(context.WithoutCancel(ctx))
	defer stopInner()
	outer, stopOuter := context.WithCancel(ctx)
	defer stopOuter()
	group := errgroup.Group{}
	part := func(run func() error) {
		group.Go(func() error {
			defer stopOuter() // a part that ends takes the rest with it
			return run()
		})
	}
	if err := s.holdAll(); err != nil {
		return err
	}
	s.remains = nil // the pool's from now on
	part(func() error { return s.pool.Run(inner) })
	part(func() error { s.backend.followWorkers(inner, s.pool.Events()); return nil })
	part(func() error { s.backend.keepHouse(inner); return nil })
	part(func() error { s.backend.paceCrowds(inner); return nil })
	part(func() error { return serveAdmin(inner, s.backend, s.upgrade, s.admin) })
	s.backend.rebuild(ctx, startTimeout) // before the main server or a client asks who is there
	s.backend.addresses.refresh(ctx)
	part(func() error { s.backend.addresses.run(inner); return nil })
	group.Go(func() error { s.backend.awaitAddresses(inner); return nil }) // it ends once there are some
	if s.link != nil {
		part(func() error { return s.link.Run(inner) })
		part(func() error {
			s.api.PollICEServers(inner, s.cfg.Interop.ICEServersInterval, s.setICEServers)
			return nil
		})
	}
	s.backend.awaitServing(ctx, startTimeout)
	server := newHTTPServer(s.backend, s.sockets, s.cfg, s.log)
	part(func() error { return serveHTTP(outer, server, s.http, s.share.public, s.log) })
	part(func() error { s.upgrade.follow(inner, s.Upgrade); return nil })
	group.Go(func() error { return s.Manager.Watch(inner, s.backend.alive) }) // it ends at once without a watchdog
	err := s.announceServing(outer)
	if err != nil {
		stopOuter()
	}
	select {
	case <-outer.Done():
		err = errors.Join(err, s.Manager.Stopping())
		s.announceStop(hurry)
	case <-s.upgrade.replace:
		err = errors.Join(err, s.leave(hurry))
		stopOuter()
	}
	stopInner()
	err = errors.Join(err, group.Wait())
	s.backend.background.Wait()
	return err
}

func (s *supervisor) setICEServers(list json.RawMessage) {
	if len(list) == 0 {
		s.backend.iceServers.Store(nil)
		return
	}
	s.backend.iceServers.Store(&list)
}

// announceStop tells clients and the main server, and ends the sockets.
func (s *supervisor) announceStop(hurry context.Context) {
	const reason = "server is stopping"
	s.log.Info("supervisor stops")
	s.backend.presence.Send(interopwire.SfuStatus{Status: interopwire.StatusError, Details: reason})
	r := s.backend.registry
	r.mu.Lock()
	r.closed = true
	for _, ch := range r.channels {
		s.backend.broadcastLocked(ch, nil, wire.ServerShutdown{Reason: reason, ETA: s.cfg.Workers.StopTimeout.Seconds()})
	}
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(hurry, flushTimeout)
	defer cancel()
	if err := s.sockets.Close(ctx, wire.CloseGoingAway, wire.ReasonServerStop); err != nil {
		s.log.Warn("sockets did not end in time", obs.Err(err))
	}
	r.mu.Lock()
	for _, ch := range r.channels {
		for _, u := range ch.users {
			if u.grace != nil {
				u.grace.Stop()
			}
		}
	}
	r.mu.Unlock()
	s.backend.awaitBackground(ctx)
}

// close lets go of everything that open took.
func (s *supervisor) close() error {
	var faults []error
	if s.http != nil {
		faults = append(faults, closed(s.http.Close()))
	}
	if s.admin != nil {
		faults = append(faults, closed(s.admin.Close()))
	}
	if s.api != nil {
		s.api.CloseIdle()
	}
	living := slices.ContainsFunc(s.remains, (*process.Remains).Alive)
	for _, r := range s.remains {
		faults = append(faults, r.Close())
	}
	if s.media != nil {
		faults = append(faults, s.media.close())
	}
	switch {
	case s.dir == nil:
	case living:
		faults = append(faults, s.dir.leave())
	default:
		faults = append(faults, s.dir.close())
	}
	return errors.Join(faults...)
}

// closed forgives a second Close.
func closed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
