package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspeak/sfu/cmd/loadgen/load"
	"github.com/dspeak/sfu/cmd/loadgen/table"
)

// tableCommand measures several loads on a server of its own.
func tableCommand() *cobra.Command {
	var cfg table.Config
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "table",
		Short: "Start a server with one worker and measure a table of loads, each in turns with a bare sendmmsg loop",
		Long: "Starts the supervisor beside this program with one worker on loopback, in a run directory and on ports of its own,\n" +
			"and measures each load on it, in turns with a bare sendmmsg loop on the worker's CPU. Fails only if a row could not\n" +
			"be measured; losses and doubts are told in the table.",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg.Programs == "" {
				self, err := os.Executable()
				if err != nil {
					return fmt.Errorf("find the supervisor: %w", err)
				}
				cfg.Programs = filepath.Dir(self)
			}
			cfg.Progress = func(line string) { fmt.Fprintln(os.Stderr, line) }
			t, err := table.Run(cmd.Context(), cfg)
			if len(t.Lines) == 0 {
				return err
			}
			if asJSON {
				return errors.Join(json.NewEncoder(cmd.OutOrStdout()).Encode(t), err)
			}
			return errors.Join(t.WriteText(cmd.OutOrStdout()), err)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&cfg.Rows, "rows", []string{"1x200", "10x50", "20x100", "40x100", "80x100"}, "loads, speakers x listeners")
	f.StringSliceVar(&cfg.Sizes, "sizes", []string{load.SizesConstant, load.SizesOpus}, "payload sizes to measure each with")
	f.IntVar(&cfg.Rounds, "rounds", 3, "windows of the worker in each row, and as many of the bare loop")
	f.DurationVar(&cfg.Duration, "duration", 6*time.Second, "time of counted sending in each row, all rounds together")
	f.StringVar(&cfg.Programs, "programs", "", "directory of the supervisor and worker programs, default that of this one")
	f.StringArrayVar(&cfg.Env, "env", nil, "a further setting of the supervisor, as NAME=VALUE")
	f.BoolVar(&asJSON, "json", false, "the table as JSON, with each row's whole report")
	return cmd
}
