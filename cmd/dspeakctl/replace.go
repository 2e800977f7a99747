package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
)

const (
	// rollPatience is how long workers may take to be upgraded, and the supervisor after
	// them.
	rollPatience = 2 * time.Minute
	// successorPatience is how long the next supervisor may take to answer, and the
	// former one after it, if it goes back.
	successorPatience = 30 * time.Second
	// replacePoll is how often a supervisor that replaces itself is asked.
	replacePoll = 50 * time.Millisecond
)

func (c *control) restart() *cobra.Command {
	return &cobra.Command{
		Use: "restart WORKER", Short: "Replace a worker's process; nobody in its calls notices", Args: cobra.ExactArgs(1),
		RunE: c.run(func(ctx context.Context, client adminv1.AdminServiceClient, args []string) (proto.Message, error) {
			n, err := slot(args[0])
			if err != nil {
				return nil, err
			}
			return client.RestartWorker(ctx, &adminv1.RestartWorkerRequest{Slot: n})
		}),
	}
}

func (c *control) drain() *cobra.Command {
	var deadline time.Duration
	var cancel bool
	cmd := &cobra.Command{
		Use: "drain WORKER", Short: "Give a worker no new channels", Args: cobra.ExactArgs(1),
		RunE: c.run(func(ctx context.Context, client adminv1.AdminServiceClient, args []string) (proto.Message, error) {
			n, err := slot(args[0])
			if err != nil {
				return nil, err
			}
			ms, err := milliseconds(deadline)
			if err != nil {
				return nil, err
			}
			return client.DrainWorker(ctx, &adminv1.DrainWorkerRequest{Slot: n, Cancel: cancel, DeadlineMs: ms})
		}),
	}
	cmd.Flags().DurationVar(&deadline, "deadline", 0, "end the channels that are left after so long, 0: never")
	cmd.Flags().BoolVar(&cancel, "cancel", false, "end the drain: the worker gets channels again")
	return cmd
}

func (c *control) upgrade() *cobra.Command {
	var deadline time.Duration
	cmd := &cobra.Command{
		Use: "upgrade", Short: "Bring the programs on disk into use; nobody in a call notices", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.patience = rollPatience + deadline
			return c.run(func(ctx context.Context, client adminv1.AdminServiceClient, _ []string) (proto.Message, error) {
				return upgrade(ctx, client, deadline)
			})(cmd, args)
		},
	}
	cmd.Flags().DurationVar(&deadline, "drain-deadline", 0,
		"drain workers whose state the new program cannot read, and end what is left after so long; 0: refuse")
	return cmd
}

// upgrade asks for it and waits for the supervisor that follows.
func upgrade(ctx context.Context, client adminv1.AdminServiceClient, deadline time.Duration) (proto.Message, error) {
	ms, err := milliseconds(deadline)
	if err != nil {
		return nil, err
	}
	done, err := client.Upgrade(ctx, &adminv1.UpgradeRequest{DrainDeadlineMs: ms})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, successorPatience)
	defer cancel()
	ticker := time.NewTicker(replacePoll)
	defer ticker.Stop()
	for {
		now, err := client.GetSupervisor(ctx, &adminv1.GetSupervisorRequest{})
		switch {
		case status.Code(err) == codes.Unavailable: // between the two
		case err != nil:
			return nil, err
		case now.GetRolledBack() != "" && now.GetReplacements() > done.GetReplacements():
			return nil, status.Error(codes.Aborted, "workers are upgraded, the supervisor went back to the former program: "+now.GetRolledBack())
		case now.GetReplacements() > done.GetReplacements():
			return now, nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, status.Error(codes.Aborted, "workers are upgraded and serve, but the supervisor does not answer any more; start it, it will adopt them")
		}
	}
}

// milliseconds is a duration as the supervisor takes it.
func milliseconds(d time.Duration) (uint64, error) {
	if d < 0 {
		return 0, status.Errorf(codes.InvalidArgument, "%v is in the past", d)
	}
	return uint64(d.Milliseconds()), nil //nolint:gosec // not negative
}
