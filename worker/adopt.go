package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/lapse"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/worker/ledger"
)

const (
	// adoptTimeout bounds how long one that wants to be the supervisor may take to say so.
	adoptTimeout = time.Second
	// adoptPatience is how long it waits for the former one's connection to end: that of
	// a killed process ends a moment after it.
	adoptPatience = 250 * time.Millisecond
)

// offer is a connection of one that wants to be the worker's supervisor.
type offer struct {
	conn  *handoff.Conn
	files []*os.File
}

func (o offer) close() { _ = errors.Join(o.conn.Close(), closeAll(o.files)) }

// obey says that the worker is ready and does what its supervisor says, and after its
// end what the next one says, one at a time. It returns when ctx ends, when a
// successor is to go on, and when for the orphan timeout there was no supervisor and
// nobody used the worker: no transport that a client connected, no control connection.
func (w *worker) obey(ctx context.Context, conn *handoff.Conn) error {
	offers := make(chan offer)
	var accepting sync.WaitGroup
	defer accepting.Wait()
	if path := w.assign.AdoptSocket; path != "" {
		listener, err := handoff.Listen(path)
		if err != nil {
			return errors.Join(err, conn.Send(handoff.Message{Failed: &handoff.Failed{Reason: err.Error()}}))
		}
		ctx, stop := context.WithCancel(ctx)
		defer func() { stop(); _ = listener.Close() }()
		accepting.Go(func() { w.accept(ctx, listener, offers) })
	}
	if err := conn.Send(handoff.Message{Ready: &w.ready}); err != nil {
		return err
	}
	w.log.Info("worker serves", slog.String("socket", w.assign.Socket))
	for adopted := false; ; adopted = true {
		retired := w.follow(ctx, conn)
		if adopted { // the first connection is the caller's
			_ = conn.Close()
		}
		if retired || ctx.Err() != nil {
			return nil
		}
		var ok bool
		if conn, ok = w.awaitAdoption(ctx, offers, time.Now()); !ok {
			return nil
		}
	}
}

// follow does what the supervisor says until its connection ends, or ctx; true: a
// successor is to go on.
func (w *worker) follow(ctx context.Context, conn *handoff.Conn) bool {
	for {
		m, files, err := conn.Receive(ctx)
		_ = closeAll(files) // nothing was written to them
		switch {
		case ctx.Err() != nil:
			return false
		case err != nil:
			w.log.Warn("supervisor is gone, serving on", obs.Err(err))
			return false
		case m.Retire != nil:
			w.log.Info("worker makes room for its successor")
			w.loop.Keep()
			return true
		default:
			w.log.Warn("handoff message ignored: the slot is assigned", slog.Int("files", len(files)))
		}
	}
}

// awaitAdoption waits for a new supervisor; alone is since when there is none. False: ctx ended, or nobody needs the
// worker.
func (w *worker) awaitAdoption(ctx context.Context, offers <-chan offer, alone time.Time) (*handoff.Conn, bool) {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	useless := make(chan bool, 1)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() { useless <- awaitUseless(waiting, w.orphan, w.used) })
	for {
		select {
		case o := <-offers:
			if w.adopt(o, alone) {
				return o.conn, true
			}
		case leave := <-useless:
			if leave {
				w.log.Info("worker leaves: no supervisor and no users")
			}
			return nil, false
		}
	}
}

// adopt takes an offer: its sender gets all that a supervisor holds of a worker.
func (w *worker) adopt(o offer, alone time.Time) bool {
	defer func() { _ = closeAll(o.files) }()
	if err := w.takeLog(o.files); err != nil {
		w.refuse(o.conn, err.Error())
		return false
	}
	m := handoff.Adopted{
		Protocol: handoff.Protocol, PID: os.Getpid(), Slot: w.assign.Slot, Generation: w.assign.Generation,
		Epoch: w.assign.Epoch, Alone: alone.UnixNano(), Layout: ledger.Layout, Version: handoff.Version(), Files: w.assign.Files,
	}
	if err := o.conn.Send(handoff.Message{Adopted: &m}, w.files...); err != nil {
		w.log.Warn("not adopted", obs.Err(err))
		_ = o.conn.Close()
		return false
	}
	w.log.Info("worker has a new supervisor")
	return true
}

// takeLog makes the log go to the pipe that came with an offer, if one did.
func (w *worker) takeLog(files []*os.File) error {
	for _, f := range files {
		if f.Name() != handoff.FileLog || w.pipe == nil {
			continue
		}
		if err := w.pipe.Replace(int(f.Fd())); err != nil {
			return err
		}
	}
	return nil
}

// accept takes those who want to be the supervisor, one after another, until ctx ends.
func (w *worker) accept(ctx context.Context, listener *handoff.Listener, offers chan<- offer) {
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	for ctx.Err() == nil {
		conn, err := listener.Accept()
		if err != nil {
			if ctx.Err() == nil {
				w.log.Error("worker cannot be adopted any more", obs.Err(err))
			}
			return
		}
		o, err := w.readOffer(ctx, conn)
		if err != nil {
			w.refuse(conn, err.Error())
			continue
		}
		patience, cancel := lapse.WithTimeout(ctx, adoptPatience)
		select {
		case offers <- o:
		case <-patience.Done():
			if ctx.Err() == nil {
				w.refuse(conn, "the worker has a supervisor")
			}
			o.close()
		}
		cancel()
	}
}

// readOffer reads the first message of a connection.
func (w *worker) readOffer(ctx context.Context, conn *handoff.Conn) (offer, error) {
	ctx, cancel := lapse.WithTimeout(ctx, adoptTimeout)
	defer cancel()
	m, files, err := conn.Receive(ctx)
	switch {
	case err != nil:
	case m.Adopt == nil:
		err = fmt.Errorf("adoption expected: %w", errs.ErrInvalid)
	case m.Adopt.Protocol != handoff.Protocol:
		err = fmt.Errorf("protocol %d, the worker speaks %d: %w", m.Adopt.Protocol, handoff.Protocol, errs.ErrUnsupported)
	}
	if err != nil {
		return offer{}, errors.Join(err, closeAll(files))
	}
	return offer{conn: conn, files: files}, nil
}

// refuse answers an offer that is not taken.
func (w *worker) refuse(conn *handoff.Conn, reason string) {
	_ = conn.Send(handoff.Message{Adopted: &handoff.Adopted{Refused: reason, Protocol: handoff.Protocol, PID: os.Getpid()}})
	_ = conn.Close()
}
