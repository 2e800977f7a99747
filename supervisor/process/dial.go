package process

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/dspeak/sfu/internal/errs/status"
)

const (
	// maxTries bounds how often a call is made that lost its worker.
	maxTries = 8
	// The pauses between them grow from the first to the last: a worker that retires
	// still answers for some milliseconds.
	firstTryPause, lastTryPause = 5 * time.Millisecond, 100 * time.Millisecond
)

// dial opens the control connection of a slot, lazily. It outlives the processes that
// serve the slot: a call waits for one within its deadline, and a call that lost its
// process is made again on the next, which a worker's calls allow: they are told apart
// by the ids of what they make.
func dial(path string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("unix:"+path,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(status.UnaryClient, repeatLost),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 100 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.WaitForReady(true)),
	)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", path, err)
	}
	return conn, nil
}

// repeatLost makes a call again whose process was lost, or has ended its media loop.
func repeatLost(
	ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	wait := firstTryPause
	for try := 1; ; try++ {
		err := invoke(ctx, method, req, reply, conn, opts...)
		code := grpcstatus.Code(err)
		if (code != codes.Unavailable && code != codes.Aborted) || try == maxTries || ctx.Err() != nil {
			return err
		}
		pause(ctx, wait)
		wait = min(2*wait, lastTryPause)
	}
}
