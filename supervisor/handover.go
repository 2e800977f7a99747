package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/signaling/wire"
	"github.com/dspeak/sfu/supervisor/service"
)

// leaveTimeout bounds how long sockets may take to end where another supervisor goes on
// at once.
const leaveTimeout = 500 * time.Millisecond

// leave ends the sockets for the supervisor that follows, and leaves the media alone.
func (s *supervisor) leave(hurry context.Context) error {
	listener, ok := s.http.(*net.TCPListener)
	if !ok {
		return fmt.Errorf("public port is a %T: %w", s.http, errs.ErrInvalid)
	}
	port, err := listener.File()
	if err != nil {
		return fmt.Errorf("pass the public port on: %w", err)
	}
	s.successor = port
	s.log.Info("supervisor makes room for its successor")
	s.pool.Leave()
	r := s.backend.registry
	r.mu.Lock()
	r.closed, r.leaving = true, true
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(hurry, leaveTimeout)
	defer cancel()
	if err := s.sockets.Close(ctx, wire.CloseRestart, wire.ReasonRestart); err != nil {
		s.log.Warn("sockets did not end in time", obs.Err(err))
	}
	s.backend.awaitBackground(ctx)
	return s.Manager.Reloading()
}

// handOver makes the program on disk go on as this process. It returns only when that
// fails, with the files to go on with.
func (s *supervisor) handOver() (*service.Files, error) {
	files := s.pool.HeldFiles()
	files[lockName], files[httpName] = s.dir.lock, s.successor
	fault := s.Self.Replace(files)
	s.log.Error("supervisor is not replaced, this one goes on", obs.Err(fault))
	again, err := service.FilesOf(files)
	for _, f := range files {
		err = errors.Join(err, f.Close())
	}
	return again, errors.Join(err, closed(s.admin.Close()))
}

// hold asks the service manager to keep a file for the supervisor that follows a crash.
func (s *supervisor) hold(name string, f *os.File) {
	if err := s.Manager.Store(name, f); err != nil {
		s.log.Warn("a crash of the supervisor may lose more", slog.String("file", name), obs.Err(err))
	}
}

func (s *supervisor) release(name string) {
	if err := s.Manager.Forget(name); err != nil {
		s.log.Warn("the service manager keeps a file", slog.String("file", name), obs.Err(err))
	}
}

// holdAll stores what is open from the start.
func (s *supervisor) holdAll() error {
	listener, ok := s.http.(*net.TCPListener)
	if !ok {
		return fmt.Errorf("public port is a %T: %w", s.http, errs.ErrInvalid)
	}
	port, err := listener.File()
	if err != nil {
		return fmt.Errorf("keep the public port: %w", err)
	}
	s.hold(httpName, port)
	for name, f := range s.pool.HeldFiles() {
		s.hold(name, f)
	}
	return port.Close()
}
