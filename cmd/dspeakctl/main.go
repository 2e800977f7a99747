// Command dspeakctl is the operators' view of a running supervisor.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dspeakctl:", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

// control is what all commands share.
type control struct {
	socket string
	json   bool
	// patience is how much longer than usual the answer may take.
	patience time.Duration
}

func command() *cobra.Command {
	c := &control{}
	root := &cobra.Command{
		Use: "dspeakctl", Short: "Look into a running voice backend and act on it",
		SilenceUsage: true, SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&c.socket, "socket", defaultSocket(), "the supervisor's admin socket")
	root.PersistentFlags().BoolVar(&c.json, "json", false, "print JSON")
	var reason string
	kick := &cobra.Command{
		Use: "kick CHANNEL USER", Short: "Remove a user from a channel at once", Args: cobra.ExactArgs(2),
		RunE: c.run(func(ctx context.Context, client adminv1.AdminServiceClient, args []string) (proto.Message, error) {
			return client.KickUser(ctx, &adminv1.KickUserRequest{ChannelId: args[0], UserId: args[1], Reason: reason})
		}),
	}
	kick.Flags().StringVar(&reason, "reason", "", "shown to the user")
	root.AddCommand(
		&cobra.Command{
			Use: "workers", Short: "List the worker slots", Args: cobra.NoArgs,
			RunE: c.run(func(ctx context.Context, client adminv1.AdminServiceClient, _ []string) (proto.Message, error) {
				return client.ListWorkers(ctx, &adminv1.ListWorkersRequest{})
			}),
		},
		&cobra.Command{
			Use: "channels", Short: "List the voice channels", Args: cobra.NoArgs,
			RunE: c.run(func(ctx context.Context, client adminv1.AdminServiceClient, _ []string) (proto.Message, error) {
				return client.ListChannels(ctx, &adminv1.ListChannelsRequest{})
			}),
		},
		&cobra.Command{
			Use: "channel ID", Short: "Show one channel: users, transports, and who hears whom", Args: cobra.ExactArgs(1),
			RunE: c.run(func(ctx context.Context, client adminv1.AdminServiceClient, args []string) (proto.Message, error) {
				return client.GetChannel(ctx, &adminv1.GetChannelRequest{ChannelId: args[0]})
			}),
		},
		kick,
		c.restart(), c.drain(), c.upgrade(),
	)
	return root
}

// defaultSocket is in DSPEAK_RUN_DIR, or in run/ beside this program.
func defaultSocket() string {
	dir := os.Getenv("DSPEAK_RUN_DIR")
	if dir == "" {
		self, err := os.Executable()
		if err != nil {
			self = "."
		}
		dir = filepath.Join(filepath.Dir(self), "run")
	}
	return filepath.Join(dir, "supervisor.sock")
}

// answerTimeout is how long the supervisor may take.
const answerTimeout = 5 * time.Second

// explain turns the error of a call into one line for people. answered: the supervisor
// itself said so.
func (c *control) explain(err error, answered bool) error {
	switch code := status.Code(err); {
	case code == codes.Unavailable && !answered:
		return fmt.Errorf("no supervisor answers on %s; start it, or name its socket by --socket or its directory by DSPEAK_RUN_DIR", c.socket)
	case code == codes.DeadlineExceeded:
		return fmt.Errorf("the supervisor on %s does not answer within %v", c.socket, answerTimeout+c.patience)
	default:
		return errors.New(status.Convert(err).Message())
	}
}

// slot reads a worker's number.
func slot(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, status.Errorf(codes.InvalidArgument, "worker %q, want its number", text)
	}
	return uint32(n), nil
}

// request asks the supervisor one thing.
type request func(ctx context.Context, client adminv1.AdminServiceClient, args []string) (proto.Message, error)

func (c *control) run(ask request) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		conn, err := grpc.NewClient("unix:"+c.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return fmt.Errorf("dial %s: %w", c.socket, err)
		}
		defer func() { _ = conn.Close() }()
		ctx, cancel := context.WithTimeout(cmd.Context(), answerTimeout+c.patience)
		defer cancel()
		answer, err := ask(ctx, adminv1.NewAdminServiceClient(conn), args)
		if err != nil {
			return c.explain(err, conn.GetState() == connectivity.Ready)
		}
		if !c.json {
			return write(cmd.OutOrStdout(), answer)
		}
		b, err := protojson.MarshalOptions{EmitDefaultValues: true, Multiline: true}.Marshal(answer)
		if err != nil {
			return fmt.Errorf("encode answer: %w", err)
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), string(b))
		return err
	}
}

// write prints an answer as a table.
func write(w io.Writer, answer proto.Message) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	switch m := answer.(type) {
	case *adminv1.ListWorkersResponse:
		writeWorkers(table, m)
	case *adminv1.ListChannelsResponse:
		writeChannels(table, m.GetChannels())
	case *adminv1.GetChannelResponse:
		writeChannel(table, m)
	case *adminv1.DrainWorkerResponse:
		writeWorkers(table, &adminv1.ListWorkersResponse{Workers: []*adminv1.Worker{m.GetWorker()}})
	case *adminv1.GetSupervisorResponse:
		fmt.Fprintf(table, "version %s, process %d, replaced %d times\n", m.GetVersion(), m.GetPid(), m.GetReplacements())
	case *adminv1.RestartWorkerResponse:
		fmt.Fprintf(table, "worker %d goes on as process %d, after %.1f ms\n", m.GetWorker().GetSlot(), m.GetWorker().GetPid(), m.GetWorker().GetLastTakeoverMs())
	case *adminv1.KickUserResponse:
		fmt.Fprintf(table, "removed, %d sockets closed\n", m.GetSockets())
	}
	return table.Flush()
}
