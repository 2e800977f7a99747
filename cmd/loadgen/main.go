// Command loadgen joins simulated users to a running voice backend, lets them
// talk, and reports what arrived, how late, and what it cost the workers.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspeak/sfu/cmd/loadgen/load"
	"github.com/dspeak/sfu/internal/errs"
)

func main() {
	// The engine and the pacer hold a processor each while their threads wait.
	runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0)))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var cfg load.Config
	var asJSON, allowLoss bool
	var profile string
	cmd := &cobra.Command{
		Use:           "loadgen",
		Short:         "Load a voice backend with real ICE, DTLS and SRTP clients",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := profiled(profile, func() (load.Report, error) { return load.Run(cmd.Context(), cfg) })
			if err != nil {
				return err
			}
			if asJSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(report)
			} else {
				err = report.WriteText(cmd.OutOrStdout())
			}
			if !allowLoss && !report.Complete() {
				err = errors.Join(err, fmt.Errorf("%d of %d packets arrived: %w", report.Delivered, report.Expected, errs.ErrUnavailable))
			}
			if len(report.Invalid) > 0 {
				err = errors.Join(err, fmt.Errorf("the run is invalid: %s: %w", strings.Join(report.Invalid, "; "), errs.ErrExhausted))
			}
			return err
		},
	}
	cmd.AddCommand(floorChild(), tableCommand(), crowdCommand(), crowdBystander())
	f := cmd.Flags()
	f.StringVar(&cfg.URL, "url", "ws://localhost:8425/socket", "signaling URL")
	f.IntVar(&cfg.Channels, "channels", 1, "voice channels")
	f.IntVar(&cfg.Speakers, "speakers", 1, "speakers in each channel")
	f.IntVar(&cfg.Listeners, "listeners", 10, "listeners in each channel")
	f.BoolVar(&cfg.SpeakersListen, "speakers-listen", false, "speakers of a channel hear each other")
	f.IntVar(&cfg.Payload, "payload", 120, "RTP payload in bytes with constant sizes")
	f.StringVar(&cfg.Sizes, "sizes", load.SizesConstant, "payload sizes: constant, or opus for those of recorded speech (32 kbit/s VBR, 20 ms)")
	f.BoolVar(&cfg.DTX, "dtx", false, "speakers pause as in a conversation, with comfort noise every 400 ms")
	f.DurationVar(&cfg.PacketTime, "packet-time", 20*time.Millisecond, "time between a speaker's packets")
	f.StringVar(&cfg.Phases, "phases", load.PhasesUniform, "times of the speakers in a packet time: uniform, aligned or random (the same in every run)")
	f.DurationVar(&cfg.Warmup, "warmup", time.Second, "time of sending before counting")
	f.DurationVar(&cfg.Duration, "duration", 10*time.Second, "time of counted sending, all rounds together")
	f.IntVar(&cfg.Rounds, "rounds", 0, "windows measured one by one, 0: 5 with --floor, else 1")
	f.BoolVar(&cfg.Floor, "floor", false, "measure a bare sendmmsg loop in turns with the worker, on its CPU; needs one --pid")
	f.DurationVar(&cfg.JoinTimeout, "join-timeout", time.Minute, "time until everyone must hear everyone")
	f.IntVar(&cfg.JoinRate, "join-rate", 0, "users that begin to join in a second, 0: all at once")
	f.DurationVar(&cfg.Idle, "idle", 0, "time of silence after the join whose CPU and memory are measured, once the workers' memory has settled")
	f.IntVar(&cfg.CPU, "cpu", load.NoCPU, "the only CPU that the generator uses, -1: any")
	f.StringVar(&profile, "cpuprofile", "", "write a CPU profile of the generator to this file")
	f.IntSliceVar(&cfg.PIDs, "pid", nil, "worker processes to measure")
	f.StringVar(&cfg.Control, "control", "", "control socket of a worker whose answers are timed meanwhile, such as run/worker-0.sock")
	f.StringVar(&cfg.Prefix, "prefix", fmt.Sprintf("load-%d", os.Getpid()), "start of channel and user names")
	f.BoolVar(&allowLoss, "allow-loss", false, "missing packets are no failure, for measurements of an overload")
	f.BoolVar(&asJSON, "json", false, "report as JSON")
	return cmd
}

// profiled runs with a CPU profile in the file, if one is named.
func profiled(file string, run func() (load.Report, error)) (report load.Report, err error) {
	if file == "" {
		return run()
	}
	f, err := os.Create(file) //nolint:gosec // the user names it
	if err != nil {
		return report, fmt.Errorf("create CPU profile: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := pprof.StartCPUProfile(f); err != nil {
		return report, fmt.Errorf("start CPU profile: %w", err)
	}
	defer pprof.StopCPUProfile()
	return run()
}

// floorChild is what loadgen starts itself as for --floor.
func floorChild() *cobra.Command {
	return &cobra.Command{
		Use:           load.FloorCommand,
		Hidden:        true,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(*cobra.Command, []string) error { return load.ServeFloor(os.Stdin, os.Stdout) },
	}
}
