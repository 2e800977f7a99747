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
	"github.com/dspeak/sfu/supervisor"
	"github.com/dspeak/sfu/supervisor/service"
)

// readyTimeout bounds how long a supervisor that replaced another may take to serve.
const readyTimeout = 10 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "supervisor:", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(exitCode(err))
	}
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

func run() error {
	files, err := service.Inherited(os.Getenv(service.EnvFiles))
	if err != nil {
		return err
	}
	self, err := service.NewSelf()
	if err != nil {
		return err
	}
	guard, err := service.NewGuard(self, files, readyTimeout)
	if err != nil {
		return err
	}
	return guard.GoBack(serve(supervisor.Process{Files: files, Self: self, Guard: guard}))
}
