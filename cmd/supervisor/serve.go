package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/dspeak/sfu/internal/config"
	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/supervisor"
	"github.com/dspeak/sfu/supervisor/service"
)

// serve reads the settings and runs the supervisor until a signal ends it.
func serve(sink *obs.Sink, p supervisor.Process) error {
	flags := pflag.NewFlagSet("supervisor", pflag.ContinueOnError)
	config.AddFlags(flags)
	if err := flags.Parse(os.Args[1:]); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil
		}
		return fmt.Errorf("%w; see --help: %w", err, errs.ErrInvalid)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q; see --help: %w", flags.Arg(0), errs.ErrInvalid)
	}
	cfg, err := config.Load(flags, p.Self.Env)
	if err != nil {
		return err
	}
	if p.Log, err = sink.NewLogger(cfg.Log.Level, cfg.Log.Format); err != nil {
		return err
	}
	if check, err := flags.GetBool(config.FlagCheck); err != nil || check {
		return errors.Join(err, supervisor.CheckMachine(context.Background(), cfg, p.Log))
	}
	if p.Manager, err = service.NewManager(); err != nil {
		return err
	}
	ctx, hurry, upgrade, ignore := untilSignals()
	defer ignore()
	p.Hurry, p.Upgrade = hurry, upgrade
	return supervisor.Run(ctx, cfg, p)
}
