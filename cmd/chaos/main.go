// Command chaos kills the processes of a voice backend of its own while people
// talk, and reports what they noticed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspeak/sfu/cmd/chaos/faults"
	"github.com/dspeak/sfu/internal/errs"
)

func main() {
	// The receiver and the pacer hold a processor each while their threads wait.
	runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0)))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

// numbers are how often faults strike unless that is chosen.
func numbers() map[faults.Kind]int {
	return map[faults.Kind]int{
		faults.Kill: 200, faults.Segfault: 6, faults.Stop: 10, faults.Double: 10,
		faults.Restart: 10, faults.Supervisor: 10, faults.Upgrade: 2, faults.Freeze: 5,
	}
}

func command() *cobra.Command {
	var cfg faults.Config
	var limit time.Duration
	var asJSON, quiet bool
	var env []string
	var list string
	cmd := &cobra.Command{
		Use:           "chaos",
		Short:         "Kill workers and supervisors of a call, and report what was heard of it",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if cfg.Faults, err = faults.ParseFaults(list, numbers()); err != nil {
				return err
			}
			if cfg.Env, err = variables(env); err != nil {
				return err
			}
			if !quiet {
				began := time.Now()
				cfg.Say = func(text string) {
					_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%6.1fs %s\n", time.Since(began).Seconds(), text)
				}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), limit)
			defer cancel()
			return play(ctx, cmd, cfg, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Programs, "programs", ownFolder(), "directory of the supervisor, worker and dspeakctl programs")
	f.IntVar(&cfg.Channels, "channels", 20, "voice channels")
	f.IntVar(&cfg.Users, "users", 10, "users in each channel, who all speak and hear the others")
	f.IntVar(&cfg.Restless, "restless", 20, "users that come, go and produce anew all the time")
	f.IntVar(&cfg.TCP, "tcp", 4, "users whose media goes over TCP, at most one in a channel")
	f.IntVar(&cfg.Workers, "workers", 1, "worker processes")
	f.StringVar(&list, "faults", "", fmt.Sprintf("kinds of faults of %q, each as KIND or KIND=TIMES; default all", faults.Kinds()))
	f.Float64Var(&cfg.Repeat, "repeat", 0.01, "share of packets after which a speaker sends an older one again")
	f.Uint64Var(&cfg.Seed, "seed", 1, "of the order of faults and of what users do")
	f.DurationVar(&cfg.Window, "window", 600*time.Millisecond, "least time measured around each fault, and without one before it")
	f.DurationVar(&cfg.Deadline, "deadline", 5*time.Second, "time after a fault until everyone must be heard again")
	f.BoolVar(&cfg.Targets, "targets", false, "missed targets of times are failures")
	f.IntVar(&cfg.MaxFailures, "max-failures", 5, "end after so many faults that were not survived, 0: never")
	f.StringArrayVar(&env, "env", nil, "NAME=VALUE for the supervisor")
	f.StringVar(&cfg.Log, "log", "", "file that gets the output of supervisor and workers")
	f.DurationVar(&limit, "limit", 20*time.Minute, "the run ends after this time")
	f.BoolVar(&asJSON, "json", false, "report as JSON")
	f.BoolVar(&quiet, "quiet", false, "tell nothing on the way")
	return cmd
}

// variables reads NAME=VALUE pairs.
func variables(pairs []string) (map[string]string, error) {
	all := map[string]string{}
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, fmt.Errorf("env %q, want NAME=VALUE: %w", pair, errs.ErrInvalid)
		}
		all[name] = value
	}
	return all, nil
}

func play(ctx context.Context, cmd *cobra.Command, cfg faults.Config, asJSON bool) error {
	report, err := faults.Run(ctx, cfg)
	if err != nil {
		return err
	}
	if asJSON {
		encoder := json.NewEncoder(cmd.OutOrStdout())
		encoder.SetIndent("", "  ")
		err = encoder.Encode(report)
	} else {
		err = report.WriteText(cmd.OutOrStdout())
	}
	if !report.OK {
		err = errors.Join(err, fmt.Errorf("%d faults were noticed: %w", len(report.Faults), errs.ErrUnavailable))
	}
	return err
}

func ownFolder() string {
	self, err := os.Executable()
	if err != nil {
		return "."
	}
	return filepath.Dir(self)
}
