package load

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

const (
	// settleTime bounds how long packets on their way are awaited after the last one was sent.
	settleTime = 500 * time.Millisecond
	// settleStep is how often the engine's count is looked at meanwhile.
	settleStep = time.Millisecond
	// calmTime is the silence after the warm-up, whose packets are not counted.
	calmTime = 100 * time.Millisecond
)

// conductor lets the speakers and the floor send in turns and reads what the
// measured processes used. It belongs to one goroutine, the pacer's.
type conductor struct {
	cfg    Config
	engine *engine
	pacer  *pacer
	floor  *floor // nil without --floor
	thread int64
	rounds []Round
}

// conduct plays all windows. Each begins and ends in silence, so that every
// packet's cost is in its own window.
func (c *conductor) conduct(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer raise(unix.SCHED_FIFO)()
	c.thread = int64(unix.Gettid())
	c.rounds = make([]Round, c.cfg.rounds())
	if err := c.pacer.warmUp(ctx, c.cfg.warmupPackets()); err != nil {
		return err
	}
	if err := c.pause(ctx, calmTime); err != nil {
		return err
	}
	for i := range c.rounds {
		overhead, err := c.workerWindow(ctx, &c.rounds[i])
		if err == nil && c.floor != nil {
			err = c.floorWindow(ctx, &c.rounds[i], overhead)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// reading is what everyone has used until a moment.
type reading struct {
	at      int64
	workers usage
	own     ownUsage
}

func (c *conductor) read() (r reading, err error) {
	r.at = c.pacer.clock.now()
	if r.workers, err = readUsage(c.cfg.PIDs); err == nil {
		r.own, err = readOwnUsage(c.engine.thread.Load(), c.thread)
	}
	return r, err
}

// measure books what was used between two readings.
func (r *Round) measure(before, after reading) {
	r.Elapsed = time.Duration(after.at - before.at)
	share := func(d time.Duration) float64 { return float64(d) / float64(r.Elapsed) }
	r.WorkerCPU = after.workers.cpu - before.workers.cpu
	r.WorkerShare = share(r.WorkerCPU)
	r.GeneratorCPU = after.own.all - before.own.all
	r.EngineShare = share(after.own.engine - before.own.engine)
	r.PacerShare = share(after.own.pacer - before.own.pacer)
}

// workerWindow measures the workers. It returns how many bytes longer than its
// payload a packet arrived, NaN when none did.
func (c *conductor) workerWindow(ctx context.Context, round *Round) (overhead float64, err error) {
	delivered, bytes := c.engine.delivered.Load(), c.engine.bytes.Load()
	before, err := c.read()
	if err != nil {
		return 0, err
	}
	sent, err := c.pacer.window(ctx)
	if err != nil {
		return 0, err
	}
	err = c.settle(ctx, func() bool { return c.engine.delivered.Load()-delivered >= sent.packets })
	if err != nil {
		return 0, err
	}
	after, err := c.read()
	if err != nil {
		return 0, err
	}
	round.Expected = sent.packets
	round.measure(before, after)
	delivered, bytes = c.engine.delivered.Load()-delivered, c.engine.bytes.Load()-bytes
	return float64(bytes)/float64(delivered) - float64(sent.payload)/float64(sent.packets), nil
}

// floorWindow measures the bare loop with the packets of the worker's window.
func (c *conductor) floorWindow(ctx context.Context, round *Round, overhead float64) error {
	if math.IsNaN(overhead) {
		return fmt.Errorf("no packet arrived whose size the floor could have: %w", errs.ErrUnavailable)
	}
	arrived := c.engine.floorDelivered.Load()
	pids := []int{c.floor.cmd.Process.Pid}
	before, err := readUsage(pids)
	if err != nil {
		return err
	}
	// What the worker would do meanwhile on the same CPU is not the floor's.
	c.engine.quiet.Store(true)
	defer c.engine.quiet.Store(false)
	_, start := c.pacer.next()
	result, err := c.floor.window(floorWindow{Start: start, Overhead: int(math.Round(overhead))})
	if err != nil {
		return errors.Join(err, ctx.Err())
	}
	err = c.settle(ctx, func() bool { return c.engine.floorDelivered.Load()-arrived >= result.Sent })
	if err != nil {
		return err
	}
	after, err := readUsage(pids)
	if err != nil {
		return err
	}
	round.FloorExpected, round.FloorLate = round.Expected, result.Late
	round.FloorCPU = after.cpu - before.cpu
	return nil
}

// settle waits until the packets on their way are there, not longer than settleTime.
func (c *conductor) settle(ctx context.Context, there func() bool) error {
	for waited := time.Duration(0); waited < settleTime && !there(); waited += settleStep {
		if err := c.pause(ctx, settleStep); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (c *conductor) pause(ctx context.Context, d time.Duration) error {
	_, err := c.pacer.clock.sleepUntil(ctx, c.pacer.clock.now()+int64(d))
	return err
}
