package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/lapse"
	"github.com/dspeak/sfu/internal/obs"
)

const (
	// adoptTimeout bounds how long a worker may take to accept its new supervisor: a
	// hung one never does.
	adoptTimeout = 800 * time.Millisecond
	// deathTimeout bounds the wait for a killed process's end.
	deathTimeout = time.Second
)

// Remains is what a former supervisor left of a slot: its worker if that lives,
// otherwise what another process needs to go on. It belongs to the pool that is made
// with it.
type Remains struct {
	Slot       ident.Slot
	Generation ident.Generation
	Epoch      ident.Epoch
	// Alone is since when nobody was the worker's supervisor; the zero time: not known.
	Alone   time.Time
	Sockets Sockets
	Ledger  *os.File // nil: the worker has none

	worker *child // nil: dead
}

// GoesOn says whether the slot goes on with its state: it reports EventAdopted, or
// EventDown.
func (r *Remains) GoesOn() bool { return r.worker != nil || r.Ledger != nil }

// Alive says whether a worker serves the slot.
func (r *Remains) Alive() bool { return r.worker != nil }

// Close lets the worker go, for another supervisor, and closes the files.
func (r *Remains) Close() error {
	var faults []error
	if r.worker != nil {
		r.worker.leave()
	}
	for _, f := range r.Sockets.Files {
		faults = append(faults, f.Close())
	}
	if r.Ledger != nil {
		faults = append(faults, r.Ledger.Close())
	}
	return errors.Join(faults...)
}

// End kills the worker and closes the files: nobody goes on with them.
func (r *Remains) End() error {
	if r.worker != nil {
		r.worker.kill()
		r.worker = nil
	}
	return r.Close()
}

// Adopt finds the workers that a former supervisor left in the run directory and
// becomes their supervisor, all at once. It waits for none longer than a second: a
// socket without a worker is removed, a worker that does not answer is killed. The
// caller must hold the run directory's lock.
func Adopt(ctx context.Context, runDir string, log *slog.Logger) ([]*Remains, error) {
	entries, err := os.ReadDir(runDir)
	if err != nil {
		return nil, fmt.Errorf("look for workers: %w", err)
	}
	var paths []string
	for _, e := range entries {
		if e.Type() == fs.ModeSocket && IsSocketName(e.Name()) && filepath.Ext(e.Name()) == adoptExt {
			paths = append(paths, filepath.Join(runDir, e.Name()))
		}
	}
	found := make([]*Remains, len(paths))
	var each sync.WaitGroup
	for i, path := range paths {
		each.Go(func() {
			log := log.With(slog.String("socket", filepath.Base(path)))
			r, err := adoptOne(ctx, path, log)
			if err != nil {
				log.Warn("former worker not adopted", obs.Err(err))
				err = os.Remove(path)
			}
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				log.Warn("socket of a former worker stays", obs.Err(err))
			}
			found[i] = r
		})
	}
	each.Wait()
	return slices.DeleteFunc(found, func(r *Remains) bool { return r == nil }), nil
}

const adoptExt = ".handoff"

func adoptPath(runDir, slot string) string {
	return filepath.Join(runDir, "worker-"+slot+adoptExt)
}

// adoptOne becomes the supervisor of the worker behind a socket. With an error the
// worker is certainly dead, or the error says that it is not.
func adoptOne(ctx context.Context, path string, log *slog.Logger) (*Remains, error) {
	ctx, cancel := lapse.WithTimeout(ctx, adoptTimeout)
	defer cancel()
	conn, err := handoff.Dial(ctx, path)
	if err != nil {
		return nil, err // nobody listens
	}
	pid, err := conn.PeerPID()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c, err := fosterChild(pid, conn, log) //nolint:contextcheck // its life is the keeper's
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	r, err := c.askAdoption(ctx)
	if err == nil && adoptPath(filepath.Dir(path), strconv.Itoa(int(r.Slot))) != path {
		err = errors.Join(fmt.Errorf("it serves slot %d: %w", r.Slot, errs.ErrInvalid), r.Close())
	}
	if err == nil {
		c.attach(log.With(slog.Any(obs.KeySlot, r.Slot), slog.Any(obs.KeyGeneration, r.Generation), slog.Int(obs.KeyPID, pid)))
		return r, nil
	}
	_ = c.process.Kill() // it may be dead already
	select {
	case <-c.exited:
	case <-time.After(deathTimeout):
		err = fmt.Errorf("%w; process %d does not die", err, pid)
	}
	return nil, errors.Join(err, conn.Close())
}

// askAdoption brings the worker a new log pipe and gets its files.
func (c *child) askAdoption(ctx context.Context) (*Remains, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe for the worker's log: %w", err)
	}
	go c.relayLog(read) //nolint:contextcheck // as long as the worker lives
	ask := handoff.Message{Adopt: &handoff.Adopt{Protocol: handoff.Protocol, Files: []string{handoff.FileLog}}}
	err = errors.Join(c.conn.Send(ask, write), write.Close())
	if err != nil {
		return nil, err
	}
	m, files, err := c.conn.Receive(ctx)
	switch {
	case err != nil:
		return nil, fmt.Errorf("await the worker's answer: %w", err)
	case m.Adopted == nil:
		err = fmt.Errorf("adoption expected: %w", errs.ErrInvalid)
	case m.Adopted.Refused != "":
		err = fmt.Errorf("refused: %s: %w", m.Adopted.Refused, errs.ErrUnavailable)
	case m.Adopted.Protocol != handoff.Protocol:
		err = fmt.Errorf("worker speaks handoff protocol %d, want %d: %w", m.Adopted.Protocol, handoff.Protocol, errs.ErrUnsupported)
	}
	if err != nil {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
		return nil, err
	}
	c.layout, c.version = m.Adopted.Layout, m.Adopted.Version
	r := &Remains{Slot: m.Adopted.Slot, Generation: m.Adopted.Generation, Epoch: m.Adopted.Epoch, worker: c}
	if m.Adopted.Alone > 0 {
		r.Alone = time.Unix(0, m.Adopted.Alone)
	}
	for _, f := range files {
		if f.Name() == handoff.FileLedger {
			r.Ledger = f
			continue
		}
		r.Sockets.Names, r.Sockets.Files = append(r.Sockets.Names, f.Name()), append(r.Sockets.Files, f)
	}
	return r, nil
}

// relayLog passes an adopted worker's log on until the worker ends.
func (c *child) relayLog(read *os.File) {
	_, _ = io.Copy(c.output, read) // the end is all that there is to learn
	c.output.flush()
	_ = read.Close()
}

// fosterChild is a running process that this one may not be the parent of.
func fosterChild(pid int, conn *handoff.Conn, log *slog.Logger) (*child, error) {
	// A number is used again once its process has ended; a pidfd stays with the process.
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("process %d: %w", pid, err), unix.Close(fd))
	}
	c := &child{process: process, conn: conn, output: &relay{log: log}, exited: make(chan struct{})}
	go c.awaitEnd(os.NewFile(uintptr(fd), "pidfd"))
	return c, nil
}

// awaitEnd closes exited once the process has ended.
func (c *child) awaitEnd(pidfd *os.File) {
	raw, err := pidfd.SyscallConn()
	if err == nil {
		err = raw.Read(func(fd uintptr) bool {
			ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} //nolint:gosec // a descriptor
			n, err := unix.Poll(ready, 0)
			return n > 0 || (err != nil && !errors.Is(err, unix.EINTR))
		})
	}
	if err != nil { // cannot happen: a pidfd can be polled
		c.output.Write([]byte(err.Error() + "\n")) //nolint:errcheck,gosec // it never fails
	}
	// It is a child after this process replaced itself, and must be reaped then.
	if state, err := c.process.Wait(); err == nil {
		c.state = state
	}
	_ = pidfd.Close()
	close(c.exited)
}
