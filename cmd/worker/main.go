// Command worker carries the media of one slot. The supervisor starts it; it gets
// its settings and sockets over an inherited descriptor and reads nothing else.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/worker"
)

func main() { os.Exit(run()) }

func run() int {
	nameThreads("worker")
	// First of all: what follows changes stderr, which is the supervisor's pipe from here on.
	conn, err := handoff.FromFile(os.NewFile(handoff.FD, "handoff"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "worker: started by hand? The supervisor starts workers:", err)
		return handoff.ExitBadSettings
	}
	var level slog.LevelVar
	pipe, err := worker.NewLogPipe(syscall.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return handoff.ExitFailure
	}
	log, err := obs.NewLogger(pipe, &level, "json")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return handoff.ExitBadSettings
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	// A terminal's interrupt goes to the supervisor, which ends its workers in order.
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	err = errors.Join(worker.Run(ctx, worker.Process{Conn: conn, Log: log, Level: &level, Pipe: pipe}), conn.Close())
	switch {
	case err == nil:
		return handoff.ExitOK
	case errors.Is(err, errs.ErrInvalid):
		log.Error("worker cannot use its settings", obs.Err(err))
		return handoff.ExitBadSettings
	default:
		log.Error("worker failed", obs.Err(err))
		return handoff.ExitFailure
	}
}

// nameThreads names the process and its threads in listings: the supervisor starts the
// program by a descriptor, whose number would stand there. A new thread has the name of
// the one that made it. Only looks depend on it, and errors change nothing.
func nameThreads(name string) {
	files, _ := filepath.Glob("/proc/self/task/*/comm")
	for _, file := range files {
		_ = os.WriteFile(file, []byte(name), 0o600)
	}
}
