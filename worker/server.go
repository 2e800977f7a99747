package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	channelz "google.golang.org/grpc/channelz/service"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/dspeak/sfu/internal/errs/status"
	"github.com/dspeak/sfu/internal/handoff"
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
func newServer(path string) (*server, error) {
	listener, err := handoff.ListenPath("unix", path)
	if err != nil {
		return nil, err
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
