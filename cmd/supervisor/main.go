// Command supervisor serves the signaling sockets, runs the workers, and links
// them to the app's main server.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/supervisor"
	"github.com/dspeak/sfu/supervisor/service"
)

const (
	// readyTimeout bounds how long a supervisor that replaced another may take to serve.
	readyTimeout = 10 * time.Second
	// flushTimeout bounds how long the last lines of the log hold the process up.
	flushTimeout = time.Second
)

func main() {
	sink := openOutput()
	code := 0
	if err := run(sink); err != nil {
		_, _ = fmt.Fprintln(sink, "supervisor:", strings.ReplaceAll(err.Error(), "\n", "; "))
		code = exitCode(err)
	}
	sink.Close(flushTimeout)
	os.Exit(code)
}

// Exit codes. A service manager starts the supervisor again after exitFailure, and not
// after exitBadSettings: it would be refused again the same way.
const (
	exitFailure     = 1
	exitBadSettings = handoff.ExitBadSettings
)

func exitCode(err error) int {
	if errors.Is(err, errs.ErrInvalid) && !errors.Is(err, errs.ErrUnavailable) {
		return exitBadSettings
	}
	return exitFailure
}

var errNoWorker = fmt.Errorf("this program is the supervisor, but was started as a worker: %w", errs.ErrInvalid)

func run(sink *obs.Sink) error {
	if os.Getenv(handoff.EnvWorker) != "" {
		return errNoWorker
	}
	files, err := service.Inherited(os.Getenv(service.EnvFiles))
	if err != nil {
		return err
	}
	self, err := service.NewSelf()
	if err != nil {
		return err
	}
	self.Flush = func() { sink.Flush(flushTimeout) }
	guard, err := service.NewGuard(self, files, readyTimeout)
	if err != nil {
		return err
	}
	return guard.GoBack(serve(sink, supervisor.Process{Files: files, Self: self, Guard: guard}))
}
