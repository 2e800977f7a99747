// Command supervisor serves the signaling sockets, runs the workers, and links
// them to the app's main server.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/dspeak/sfu/internal/config"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/supervisor"
	"github.com/dspeak/sfu/supervisor/service"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "supervisor:", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

func run() error {
	flags := pflag.NewFlagSet("supervisor", pflag.ContinueOnError)
	config.AddFlags(flags)
	if err := flags.Parse(os.Args[1:]); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil
		}
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q; see --help", flags.Arg(0))
	}
	files, err := service.Inherited(os.Getenv(service.EnvFiles))
	if err != nil {
		return err
	}
	cfg, err := config.Load(flags, os.Environ())
	if err != nil {
		return err
	}
	if check, err := flags.GetBool(config.FlagCheck); err != nil || check {
		return err
	}
	log, err := obs.NewLogger(os.Stderr, cfg.Log.Level, cfg.Log.Format)
	if err != nil {
		return err
	}
	manager, err := service.NewManager()
	if err != nil {
		return err
	}
	ctx, hurry, ignore := untilSignals()
	defer ignore()
	return supervisor.Run(ctx, cfg, supervisor.Process{Log: log, Hurry: hurry, Files: files, Manager: manager})
}
