package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspeak/sfu/cmd/loadgen/crowd"
	"github.com/dspeak/sfu/internal/errs"
)

// crowdCommand measures many users in one channel.
func crowdCommand() *cobra.Command {
	var cfg crowd.Config
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "crowd",
		Short: "Let many users join one channel at once, and watch a user of another channel meanwhile",
		Long: "Joins users over the real signaling protocol, waits until everyone's picture of the channel shows everyone, and reports\n" +
			"the time, the bytes that each user got, the supervisor's CPU, and how long a user of another channel waited for pongs.\n" +
			"Users come from several loopback addresses when the server is on one (connections_per_address).",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := crowd.Run(cmd.Context(), cfg)
			if len(report.Phases) > 0 {
				if asJSON {
					err = errors.Join(err, json.NewEncoder(cmd.OutOrStdout()).Encode(report))
				} else {
					err = errors.Join(err, report.WriteText(cmd.OutOrStdout()))
				}
			}
			if n := report.Failures(); n > 0 {
				err = errors.Join(err, fmt.Errorf("%d users failed: %w", n, errs.ErrUnavailable))
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.URL, "url", "ws://127.0.0.1:8425/socket", "signaling URL")
	f.IntVar(&cfg.Users, "users", 1000, "users of the channel")
	f.IntVar(&cfg.Rate, "rate", 0, "users that begin to join in a second, 0: all at once")
	f.BoolVar(&cfg.Produce, "produce", false, "every user has a transport and a producer")
	f.IntVar(&cfg.Speakers, "speakers", 0, "so many users produce, the others have a transport and consume all of them")
	f.IntVar(&cfg.Hear, "hear", 0, "so many of the others have real media and must hear a speaker")
	f.BoolVar(&cfg.Unmute, "unmute", false, "then all who produce do so again at once")
	f.BoolVar(&cfg.Reconnect, "reconnect", false, "then all sockets break at once and come back")
	f.DurationVar(&cfg.Leave, "leave", 0, "then all leave at once, watched for so long (longer than the grace)")
	f.BoolVar(&cfg.Compress, "compress", true, "offer permessage-deflate, as browsers do")
	f.IntVar(&cfg.PerAddress, "per-address", 800, "users of one loopback address")
	f.DurationVar(&cfg.Timeout, "timeout", 2*time.Minute, "time for each phase")
	f.IntVar(&cfg.PID, "pid", 0, "process id of the supervisor, to measure its CPU")
	f.StringVar(&cfg.Prefix, "prefix", fmt.Sprintf("crowd-%d", os.Getpid()), "start of channel and user names")
	f.BoolVar(&asJSON, "json", false, "report as JSON")
	return cmd
}

// crowdBystander is what loadgen starts itself as for the user of another channel.
func crowdBystander() *cobra.Command {
	return &cobra.Command{
		Use:           crowd.BystanderCommand,
		Hidden:        true,
		Args:          cobra.ExactArgs(1),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return crowd.Bystander(cmd.Context(), args[0], os.Stdin, os.Stdout)
		},
	}
}
