package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	channelz "google.golang.org/grpc/channelz/service"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/errs/status"
	"github.com/dspeak/sfu/internal/lapse"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/worker/rtc"
)

const (
	maxRequest = 1 << 20
	maxHeaders = 16 << 10
	// maxStreams bounds the calls under way on one connection; more wait at the client.
	maxStreams = 256
	// defaultTimeout bounds a call whose caller set no deadline.
	defaultTimeout = 5 * time.Second
	stopTimeout    = 2 * time.Second
	// healthInterval is the time between two beats of the control side.
	healthInterval = 100 * time.Millisecond
	// maxLoopAge is how old the loop's heartbeat may be: it beats every 100 ms.
	maxLoopAge = 500 * time.Millisecond
)

// server is the gRPC side of a worker.
type server struct {
	listener net.Listener
	grpc     *grpc.Server
	health   *health.Server
	events   *hub
	clients  *clientCount
}

// newServer listens on the Unix socket, which only this user may open.
func newServer(ctx context.Context, path string) (*server, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect %s: %w", path, err), listener.Close())
	}
	s := &server{listener: listener, health: health.NewServer(), events: newHub(), clients: &clientCount{}}
	s.grpc = grpc.NewServer(
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(defaultTimeout),
		grpc.StatsHandler(s.clients),
		grpc.ChainUnaryInterceptor(status.UnaryServer, withDefaultTimeout),
		grpc.ChainStreamInterceptor(status.StreamServer),
	)
	healthv1.RegisterHealthServer(s.grpc, s.health)
	channelz.RegisterChannelzServiceToServer(s.grpc)
	reflection.Register(s.grpc)
	return s, nil
}

// control makes the server control a loop. It is called once, before serve.
func (s *server) control(loop *rtc.Loop) {
	workerv1.RegisterWorkerServiceServer(s.grpc, &service{loop: loop, events: s.events, usage: newUsageReader(loop)})
	s.health.SetServingStatus(workerv1.WorkerService_ServiceDesc.ServiceName, healthv1.HealthCheckResponse_SERVING)
}

// removeStale removes the socket that a killed worker left, and nothing else.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for the former worker's socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is in the way of the worker's socket: %w", path, errs.ErrExists)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the former worker's socket: %w", err)
	}
	return nil
}

// withDefaultTimeout bounds calls whose caller set no deadline.
func withDefaultTimeout(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if _, ok := ctx.Deadline(); ok {
		return handler(ctx, req)
	}
	ctx, cancel := lapse.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	return handler(ctx, req)
}

// serve answers until ctx ends; calls under way get a moment to finish.
func (s *server) serve(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- s.grpc.Serve(s.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve gRPC: %w", err)
	case <-ctx.Done():
	}
	force := time.AfterFunc(stopTimeout, s.grpc.Stop)
	s.grpc.GracefulStop()
	force.Stop()
	if err := <-failed; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve gRPC: %w", err)
	}
	return nil
}

// reportHealth keeps grpc.health.v1 true to the loop's heartbeat until ctx ends. Each
// time beat tells that the control side moves: its timers fire, its goroutines get a
// thread beside the media loop, and the health service answers.
func (s *server) reportHealth(ctx context.Context, lastTurn func() time.Time, beat func()) {
	ticker := time.NewTicker(healthInterval)
	defer ticker.Stop()
	for {
		if _, err := s.health.Check(ctx, &healthv1.HealthCheckRequest{}); err == nil {
			beat()
		}
		select {
		case <-ctx.Done():
			s.health.Shutdown()
			return
		case <-ticker.C:
		}
		state := healthv1.HealthCheckResponse_SERVING
		if time.Since(lastTurn()) > maxLoopAge {
			state = healthv1.HealthCheckResponse_NOT_SERVING
		}
		s.health.SetServingStatus("", state)
		s.health.SetServingStatus(workerv1.WorkerService_ServiceDesc.ServiceName, state)
	}
}
