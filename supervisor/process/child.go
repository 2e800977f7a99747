package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/lapse"
	"github.com/dspeak/sfu/internal/obs"
)

const (
	// startTimeout bounds a worker's start up to its hello, and from its slot to its
	// readiness.
	startTimeout = 5 * time.Second
	// lastMoment is how long a worker that failed to start may take to exit by
	// itself: its exit code tells whether a new one would do better.
	lastMoment = time.Second
	// outputDelay bounds the wait for a dead worker's error output.
	outputDelay = 2 * time.Second
)

// errBadSettings: the worker says that it would fail again the same way.
var errBadSettings = errors.New("bad settings")

// errKilled: neither the worker nor its supervisor ended it.
var errKilled = errors.New("somebody else killed it")

// child is a worker process from its start, or its adoption, to its certain end.
type child struct {
	process *os.Process
	conn    *handoff.Conn
	output  *relay
	exited  chan struct{}    // closed after the process has certainly ended
	state   *os.ProcessState // nil: it was adopted, how it ended is not known
	layout  uint64           // of the ledger's records, as its program reads and writes them
	version string           // of its program
	trial   bool             // of a program that has not proved itself
}

// spawn starts a worker process and waits for its hello. cpu below 0 leaves it
// unpinned.
func (p *Pool) spawn(ctx context.Context, program *program, cpu int) (*child, error) {
	conn, file, err := handoff.Pair()
	if err != nil {
		return nil, err
	}
	c := &child{conn: conn, output: &relay{log: p.log}, exited: make(chan struct{})}
	cmd := program.command()
	cmd.ExtraFiles = []*os.File{file} // descriptor handoff.FD
	cmd.Stderr = c.output
	cmd.WaitDelay = outputDelay
	// A session of its own: signals to the supervisor's group do not reach it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = p.start(cmd, cpu)
	err = errors.Join(err, file.Close())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", program.path, cause(err)), conn.Close())
	}
	c.process = cmd.Process
	p.reapers.Go(func() { c.reap(cmd) }) //nolint:contextcheck // the process outlives its start
	if err := c.awaitHello(ctx, p.startTimeout); err != nil {
		return nil, c.fail(err)
	}
	return c, nil
}

// cause is the error of the system without the path that the program was started by, which
// says nothing to an operator.
func cause(err error) error {
	if path, ok := errors.AsType[*os.PathError](err); ok {
		return path.Err
	}
	return err
}

// startProcess starts the command, pinned when it can be: a worker that floats is
// better than none.
func (p *Pool) startProcess(cmd *exec.Cmd, cpu int) error {
	if cpu < 0 {
		return cmd.Start()
	}
	err := startPinned(cmd, cpu)
	if errors.Is(err, errNotPinned) {
		p.log.Warn("worker is not pinned", slog.Int("cpu", cpu), obs.Err(err))
		return cmd.Start()
	}
	return err
}

func (c *child) reap(cmd *exec.Cmd) {
	err := cmd.Wait()
	c.state = cmd.ProcessState
	if c.state == nil && err != nil { // cannot happen after a successful start
		c.output.Write([]byte(err.Error() + "\n")) //nolint:errcheck,gosec // it never fails
	}
	c.output.flush()
	close(c.exited)
}

func (c *child) pid() int { return c.process.Pid }

func (c *child) awaitHello(ctx context.Context, limit time.Duration) error {
	ctx, cancel := lapse.WithTimeout(ctx, limit)
	defer cancel()
	m, _, err := c.conn.Receive(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("await worker's hello: %w", err)
	case m.Hello == nil:
		return fmt.Errorf("worker's hello expected: %w", errs.ErrInvalid)
	case m.Hello.Protocol != handoff.Protocol:
		return fmt.Errorf("worker speaks handoff protocol %d, want %d: %w", m.Hello.Protocol, handoff.Protocol, errs.ErrUnsupported)
	}
	c.layout, c.version = m.Hello.Layout, m.Hello.Version
	return nil
}

// assign gives the worker its slot and waits until it serves.
func (c *child) assign(ctx context.Context, a handoff.Assign, files []*os.File) (handoff.Ready, error) {
	if err := c.conn.Send(handoff.Message{Assign: &a}, files...); err != nil {
		return handoff.Ready{}, err
	}
	m, _, err := c.conn.Receive(ctx)
	switch {
	case err != nil:
		return handoff.Ready{}, fmt.Errorf("await worker's readiness: %w", err)
	case m.Failed != nil:
		return handoff.Ready{}, fmt.Errorf("worker cannot serve: %s: %w", m.Failed.Reason, errs.ErrUnavailable)
	case m.Ready == nil:
		return handoff.Ready{}, fmt.Errorf("worker's readiness expected: %w", errs.ErrInvalid)
	}
	return *m.Ready, nil
}

// fail ends a process that did not start for the reason err, and tells all that
// is known of it. The error wraps errBadSettings when a new one would fail, too.
func (c *child) fail(err error) error {
	byItself := false
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		c.kill()
	} else {
		byItself = c.end(lastMoment, nil)
	}
	err = fmt.Errorf("%w; it ended with %s", err, c.cause())
	if byItself && c.killed() {
		err = fmt.Errorf("%w: %w", err, errKilled)
	}
	if tail := c.output.tailText(); tail != "" {
		err = fmt.Errorf("%w and said: %s", err, tail)
	}
	if c.state.ExitCode() == handoff.ExitBadSettings {
		return fmt.Errorf("%w: %w", errBadSettings, err)
	}
	return err
}

// kill ends the process for certain and waits for it.
func (c *child) kill() {
	_ = c.process.Kill() // it may be dead already
	<-c.exited
	_ = c.conn.Close()
}

// retire asks the process to leave at once without a word to its clients, and kills it
// if it does not.
func (c *child) retire() {
	if err := c.conn.Send(handoff.Message{Retire: &handoff.Retire{}}); err != nil {
		c.kill()
		return
	}
	c.end(lastMoment, nil)
}

// stop asks the process to end, and kills it after the grace period.
func (c *child) stop(grace time.Duration, hurry <-chan struct{}) {
	_ = c.process.Signal(syscall.SIGTERM) // it may be dead already
	c.end(grace, hurry)
}

// end waits for the process to end without this process's doing, which it reports, and
// kills it after the grace period.
func (c *child) end(grace time.Duration, hurry <-chan struct{}) (ended bool) {
	over := make(chan struct{})
	patience := lapse.AfterFunc(grace, func() { close(over) })
	defer patience.Stop()
	select {
	case <-c.exited:
		ended = true
	case <-over:
	case <-hurry:
	}
	c.kill()
	return ended
}

// leave lets the process go on without a supervisor, until another adopts it.
func (c *child) leave() { _ = c.conn.Close() }

// killed reports whether somebody else ended the process, by a signal that its own code
// does not cause. It must have ended.
func (c *child) killed() bool {
	if c.state == nil {
		return false
	}
	status, ok := c.state.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && !slices.Contains(faultSignals(), status.Signal())
}

// faulted reports whether the process ended of a fault of its own code: a panic, or a
// signal that the kernel sends for one. It must have ended. How an adopted process ended
// is not known, hence no evidence.
func (c *child) faulted() bool {
	if c.state == nil {
		return false
	}
	status, ok := c.state.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return ok && status.ExitStatus() == exitPanic
	}
	return slices.Contains(faultSignals(), status.Signal())
}

// exitPanic is how the Go runtime ends a program that panics or faults.
const exitPanic = 2

func faultSignals() []syscall.Signal {
	return []syscall.Signal{
		syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGILL, syscall.SIGFPE, syscall.SIGTRAP, syscall.SIGSYS, syscall.SIGABRT,
	}
}

// cause tells why the process ended; it must have.
func (c *child) cause() string {
	if c.state == nil {
		return "ended" // only its parent could know more
	}
	return c.state.String()
}

// attach names the worker in its log lines from now on.
func (c *child) attach(log *slog.Logger) { c.output.setLog(log) }
