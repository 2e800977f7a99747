package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/dspeak/sfu/internal/errs"
)

const (
	// recoveryTimeout is how long a run waits for a call that a fault has broken.
	recoveryTimeout = 30 * time.Second
	// returnTimeout bounds the return of all signaling sockets.
	returnTimeout = 20 * time.Second
	// freezeTime is far longer than what makes a worker count as hung.
	freezeTime = time.Second
	// named missing pairs of one fault.
	named = 3
)

// conductor strikes and measures. It belongs to one goroutine.
type conductor struct {
	cfg    Config
	server *server
	call   *call
	notes  *notes
	random *rand.Rand

	control  windows
	strikes  map[Kind]*strikes
	failures int
	// Messages that came while nothing was done, during control windows.
	controlMessages int
	supervisors     supervisorTimes
}

// strikes is what was measured of one kind of fault.
type strikes struct {
	done, failed int
	windows      windows
	messages     int
	// audible is the time from each fault until everyone was heard.
	audible []time.Duration
}

// supervisorTimes are those of new supervisors from their start.
type supervisorTimes struct {
	served, adopted, returned []time.Duration
}

// plan is the sequence of faults.
func (c *conductor) plan() (all []Kind) {
	for _, kind := range Kinds() {
		for range c.cfg.Faults[kind] {
			all = append(all, kind)
		}
	}
	c.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return apart(all)
}

// own reports whether the process seems to end by its own fault. A stopped one does not.
func (k Kind) own() bool { return k == Segfault }

// apart moves faults so that no three in a row are the process's own: by those a
// state is known that nobody can go on with, and it is given up on purpose.
func apart(plan []Kind) []Kind {
	row := 0
	for i := range plan {
		if row == 2 && plan[i].own() {
			for j := range plan {
				other := (i + 1 + j) % len(plan)
				if !plan[other].own() && (other > i || other+2 < i) {
					plan[i], plan[other] = plan[other], plan[i]
					break
				}
			}
		}
		row++
		if !plan[i].own() {
			row = 0
		}
	}
	return plan
}

// conduct plays the plan, a control window before each fault.
func (c *conductor) conduct(ctx context.Context) error {
	c.strikes = map[Kind]*strikes{}
	plan := c.plan()
	for i, kind := range plan {
		if c.strikes[kind] == nil {
			c.strikes[kind] = &strikes{}
		}
		messages := c.call.tally.messages()
		c.call.open()
		pause(ctx, c.cfg.Window)
		c.call.shut(&c.control)
		c.controlMessages += c.call.tally.messages() - messages
		err := c.fault(ctx, kind, c.strikes[kind])
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errFatal):
			return err
		case err != nil:
			c.strikes[kind].failed++
			c.failures++
			c.notes.fault("fault %d of %d, %s: %v", i+1, len(plan), kind, err)
			if c.cfg.MaxFailures > 0 && c.failures >= c.cfg.MaxFailures {
				return fmt.Errorf("%w: %d faults were not survived", errFatal, c.failures)
			}
			if err := c.recovered(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// recovered waits until everyone is heard again after a fault that was not survived.
func (c *conductor) recovered(ctx context.Context) error {
	err := await(ctx, recoveryTimeout, func() error {
		pairs := c.call.pairs(time.Now())
		if here := c.call.here(); here < len(c.call.users)-c.cfg.Restless || len(pairs) == 0 {
			return fmt.Errorf("%d of %d users are in the call: %w", here, len(c.call.users), errs.ErrUnavailable)
		}
		return complaint(unheard(pairs, c.call.pacer.slot.Load()-int64(settled/packetTime)))
	})
	if err != nil {
		return fmt.Errorf("%w: the call does not recover: %w", errFatal, err)
	}
	return nil
}

func complaint(missing []string) error {
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d pairs, such as %q", errSilent, len(missing), missing[:min(named, len(missing))])
}

// fault strikes once and waits until everyone is heard.
func (c *conductor) fault(ctx context.Context, kind Kind, s *strikes) error {
	pairs := c.call.pairs(time.Now())
	if len(pairs) == 0 {
		return fmt.Errorf("nobody hears anybody: %w", errs.ErrUnavailable)
	}
	messages := c.call.tally.messages()
	c.call.open()
	began := time.Now()
	finish, err := c.strike(ctx, kind)
	s.done++
	if err == nil {
		mark := c.call.pacer.slot.Load() + 1
		err = await(ctx, c.cfg.Deadline, func() error { return complaint(unheard(pairs, mark)) })
		s.audible = append(s.audible, time.Since(began))
	}
	if err == nil {
		err = finish(ctx)
	}
	if rest := c.cfg.Window - time.Since(began); rest > 0 {
		pause(ctx, rest)
	}
	if err == nil { // who came meanwhile must hear and be heard as well
		now := c.call.pacer.slot.Load() - 1
		err = await(ctx, c.cfg.Deadline, func() error { return complaint(unheard(c.call.pairs(time.Now()), now)) })
	}
	c.call.shut(&s.windows)
	s.messages += c.call.tally.messages() - messages
	return err
}

// finisher waits for what else belongs to a fault.
type finisher func(context.Context) error

// strike does what the kind of fault is, and returns when it is done to the
// processes, not when they have survived it.
func (c *conductor) strike(ctx context.Context, kind Kind) (finisher, error) {
	switch kind { //nolint:exhaustive // the others strike one worker
	case Supervisor:
		return c.strikeSupervisor(ctx)
	case Upgrade:
		return c.upgrade(ctx)
	case Freeze:
		return c.freeze(ctx)
	}
	workers, err := c.server.workers(ctx)
	if err != nil {
		return nil, err
	}
	victim := workers[c.random.IntN(len(workers))]
	slot, pid := victim.GetSlot(), victim.GetPid()
	replaced := func(old ...uint32) finisher {
		return func(ctx context.Context) error {
			_, err := c.server.ready(ctx, slot, old...)
			return err
		}
	}
	switch kind {
	case Segfault:
		return replaced(pid), signal(pid, syscall.SIGSEGV)
	case Stop:
		return replaced(pid), signal(pid, syscall.SIGSTOP)
	case Restart:
		return replaced(pid), c.server.command(ctx, "restart", strconv.Itoa(int(slot)))
	case Double:
		if err := signal(pid, syscall.SIGKILL); err != nil {
			return nil, err
		}
		successor, err := c.server.ready(ctx, slot, pid)
		if err != nil {
			return nil, err
		}
		return replaced(pid, successor.GetPid()), signal(successor.GetPid(), syscall.SIGKILL)
	default:
		return replaced(pid), signal(pid, syscall.SIGKILL)
	}
}

// pids of the workers by slot.
func (c *conductor) pids(ctx context.Context) (map[uint32]uint32, error) {
	workers, err := c.server.workers(ctx)
	if err != nil {
		return nil, err
	}
	all := map[uint32]uint32{}
	for _, w := range workers {
		all[w.GetSlot()] = w.GetPid()
	}
	return all, nil
}

// strikeSupervisor kills the supervisor and starts another, which must find the
// same workers.
func (c *conductor) strikeSupervisor(ctx context.Context) (finisher, error) {
	before, err := c.pids(ctx)
	if err != nil {
		return nil, err
	}
	returns, struck := c.call.returns(), time.Now()
	if err := c.server.kill(); err != nil {
		return nil, err
	}
	began := time.Now()
	served, err := c.server.start(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errFatal, err)
	}
	c.supervisors.served = append(c.supervisors.served, served)
	return func(ctx context.Context) error {
		err := await(ctx, c.cfg.Deadline, func() error {
			now, err := c.pids(ctx)
			if err != nil {
				return err
			}
			for slot, pid := range before {
				if now[slot] != pid {
					return fmt.Errorf("slot %d had process %d and has %d: %w", slot, pid, now[slot], errs.ErrNotFound)
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("not adopted: %w", err)
		}
		c.supervisors.adopted = append(c.supervisors.adopted, time.Since(began))
		return c.allReturned(ctx, returns, struck, began)
	}, nil
}

// freeze stops everything, and continues it: the workers must be the same.
func (c *conductor) freeze(ctx context.Context) (finisher, error) {
	before, err := c.pids(ctx)
	if err != nil {
		return nil, err
	}
	all := append(slices.Collect(maps.Values(before)), uint32(c.server.cmd.Process.Pid)) //nolint:gosec // a process id
	for _, each := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
		for _, pid := range all {
			err = errors.Join(err, signal(pid, each)) // whatever was stopped is continued
		}
		if each == syscall.SIGSTOP {
			pause(ctx, freezeTime)
		}
	}
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		now, err := c.pids(ctx)
		if err == nil && !maps.Equal(now, before) {
			err = fmt.Errorf("the workers were %v and are %v: %w", before, now, errs.ErrUnavailable)
		}
		return err
	}, nil
}

// allReturned waits until everyone has a signaling socket again.
func (c *conductor) allReturned(ctx context.Context, before map[*user]int, struck, began time.Time) error {
	err := await(ctx, returnTimeout, func() error {
		if away := c.call.away(before, struck); len(away) > 0 {
			return fmt.Errorf("%d users have not come back, such as %q: %w", len(away), away[:min(named, len(away))], errs.ErrUnavailable)
		}
		return nil
	})
	if err == nil {
		c.supervisors.returned = append(c.supervisors.returned, time.Since(began))
	}
	return err
}

// upgrade rolls all processes to the programs on disk.
func (c *conductor) upgrade(ctx context.Context) (finisher, error) {
	before, err := c.pids(ctx)
	if err != nil {
		return nil, err
	}
	returns, struck := c.call.returns(), time.Now()
	if err := c.server.command(ctx, "upgrade"); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		for slot, pid := range before {
			if _, err := c.server.ready(ctx, slot, pid); err != nil {
				return err
			}
		}
		return c.allReturned(ctx, returns, struck, struck)
	}, nil
}
