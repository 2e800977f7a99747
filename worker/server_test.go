package worker

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	channelzv1 "google.golang.org/grpc/channelz/grpc_channelz_v1"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/dspeak/sfu/internal/handoff"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/worker/rtc"
)

func TestServicesAreListed(t *testing.T) {
	_, conn := startWorker(t, nil)
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(req *reflectionv1.ServerReflectionRequest) *reflectionv1.ServerReflectionResponse {
		t.Helper()
		if err := stream.Send(req); err != nil {
			t.Fatal(err)
		}
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	list := ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
	var names []string
	for _, s := range list.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	for _, want := range []string{
		"dspeak.worker.v1.WorkerService", "grpc.health.v1.Health", "grpc.channelz.v1.Channelz", "grpc.reflection.v1.ServerReflection",
	} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not in %v", want, names)
		}
	}
	file := ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{
		FileContainingSymbol: "dspeak.worker.v1.WorkerService.Produce",
	}})
	if len(file.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
		t.Errorf("no description of a call: %v", file)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	servers, err := channelzv1.NewChannelzClient(conn).GetServers(t.Context(), &channelzv1.GetServersRequest{})
	if err != nil || len(servers.GetServer()) == 0 {
		t.Errorf("channelz: %v, %v", servers, err)
	}
}

func TestCallsReachTheLoop(t *testing.T) {
	r, conn := startWorker(t, nil)
	client := workerv1.NewWorkerServiceClient(conn)
	info := makeTransport(t, client, "router", "transport")
	if !info.GetIceParameters().GetIceLite() || len(info.GetIceCandidates()) != 2 || len(info.GetDtlsParameters().GetFingerprints()) == 0 {
		t.Fatalf("transport %v", info)
	}
	for _, c := range info.GetIceCandidates() {
		if c.GetIp() != r.media.Addr().String() || c.GetPort() != uint32(r.media.Port()) {
			t.Errorf("candidate %v, want %s", c, r.media)
		}
	}
	dump, err := client.Dump(t.Context(), &workerv1.DumpRequest{})
	if err != nil {
		t.Fatal(err)
	}
	w := dump.GetWorker()
	if w.GetSlot() != 4 || w.GetGeneration() != 2 || w.GetPid() == 0 ||
		len(w.GetRouters()) != 1 || w.GetRouters()[0].GetTransports()[0].GetId() != "transport" {
		t.Fatalf("dump %v", w)
	}
	stats, err := client.GetStats(t.Context(), &workerv1.GetStatsRequest{Target: &workerv1.GetStatsRequest_RouterId{RouterId: "router"}})
	if err != nil || len(stats.GetTransports()) != 1 {
		t.Fatalf("stats %v, %v", stats, err)
	}
	usage, err := client.GetResourceUsage(t.Context(), &workerv1.GetResourceUsageRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if u := usage.GetUsage(); u.GetRouters() != 1 || u.GetTransports() != 1 || u.GetResidentBytes() < 1<<20 ||
		u.GetGoroutines() < 5 || u.GetFileDescriptors() < 5 || u.GetCpuTimeUs() == 0 || u.GetLoopAgeMs() > 10_000 {
		t.Fatalf("usage %v", u)
	}
	if _, err := client.CloseRouter(t.Context(), &workerv1.CloseRouterRequest{RouterId: "router"}); err != nil {
		t.Fatal(err)
	}
	usage, err = client.GetResourceUsage(t.Context(), &workerv1.GetResourceUsageRequest{})
	if err != nil || usage.GetUsage().GetTransports() != 0 {
		t.Fatalf("after the close: %v, %v", usage, err)
	}
}

// TestSocketsAreCounted: what the media sockets count reaches the caller.
func TestSocketsAreCounted(t *testing.T) {
	for name, row := range map[string]struct {
		edit func(*handoff.Assign)
		off  bool
	}{
		"segments": {func(*handoff.Assign) {}, false},
		"none":     {func(a *handoff.Assign) { a.NoSegmentation = true }, true},
	} {
		t.Run(name, func(t *testing.T) {
			r, conn := startWorker(t, row.edit)
			client := workerv1.NewWorkerServiceClient(conn)
			peer, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(r.media))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = peer.Close() }()
			if _, err := peer.Write(make([]byte, 2000)); err != nil { // longer than any receive buffer
				t.Fatal(err)
			}
			if _, err := peer.Write(make([]byte, 77)); err != nil {
				t.Fatal(err)
			}
			deadline := time.Now().Add(testLimit)
			for {
				resp, err := client.GetResourceUsage(t.Context(), &workerv1.GetResourceUsageRequest{})
				if err != nil {
					t.Fatal(err)
				}
				s := resp.GetUsage().GetSockets()
				if s.GetBytesReceived() == 77 && s.GetTruncated() == 1 {
					if n := s.GetMaxSegments(); n == 0 || row.off && n != 1 {
						t.Errorf("%d segments", n)
					}
					return
				}
				if time.Now().After(deadline) {
					t.Fatalf("counted %v", s)
				}
			}
		})
	}
}

func TestErrorsOfCalls(t *testing.T) {
	_, conn := startWorker(t, nil)
	client := workerv1.NewWorkerServiceClient(conn)
	makeTransport(t, client, "router", "transport")
	router := func(id string) error {
		_, err := client.CreateRouter(t.Context(), &workerv1.CreateRouterRequest{RouterId: id})
		return err
	}
	for name, row := range map[string]struct {
		call func() error
		want codes.Code
	}{
		"the same again": {func() error { return router("router") }, codes.OK},
		"second of a name": {func() error {
			_, err := client.CreateRouter(t.Context(), &workerv1.CreateRouterRequest{RouterId: "router", AppData: []byte("other")})
			return err
		}, codes.AlreadyExists},
		"no name":            {func() error { return router("") }, codes.InvalidArgument},
		"long name":          {func() error { return router(strings.Repeat("x", 129)) }, codes.InvalidArgument},
		"unprintable name":   {func() error { return router("a\nb") }, codes.InvalidArgument},
		"longest name":       {func() error { return router(strings.Repeat("x", 128)) }, codes.OK},
		"oversized request":  {func() error { return router(strings.Repeat("x", maxRequest+1)) }, codes.ResourceExhausted},
		"unknown transport":  {func() error { return closeTransport(t, client, "other") }, codes.NotFound},
		"transport's name":   {func() error { return makeIn(t, client, "router", "ü") }, codes.InvalidArgument},
		"transport's router": {func() error { return makeIn(t, client, "other", "t") }, codes.NotFound},
		"producer's name": {func() error {
			_, err := client.Produce(t.Context(), &workerv1.ProduceRequest{TransportId: "transport", ProducerId: " "})
			return err
		}, codes.InvalidArgument},
		"consumer's name": {func() error {
			_, err := client.Consume(t.Context(), &workerv1.ConsumeRequest{TransportId: "transport", ProducerId: "p"})
			return err
		}, codes.InvalidArgument},
		"deadline in the past": {func() error {
			ctx, cancel := context.WithTimeout(t.Context(), -time.Second)
			defer cancel()
			_, err := client.Dump(ctx, &workerv1.DumpRequest{})
			return err
		}, codes.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			if err := row.call(); status.Code(err) != row.want {
				t.Fatalf("got %v, want %v", err, row.want)
			}
		})
	}
}

func closeTransport(t *testing.T, client workerv1.WorkerServiceClient, id string) error {
	t.Helper()
	_, err := client.CloseTransport(t.Context(), &workerv1.CloseTransportRequest{TransportId: id})
	return err
}

func makeIn(t *testing.T, client workerv1.WorkerServiceClient, router, transport string) error {
	t.Helper()
	_, err := client.CreateTransport(t.Context(), &workerv1.CreateTransportRequest{RouterId: router, TransportId: transport})
	return err
}

func TestCallsAreBounded(t *testing.T) {
	for name, limit := range map[string]time.Duration{"by default": 0, "by the caller": time.Minute} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, want := t.Context(), defaultTimeout
				if limit > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, limit)
					defer cancel()
					want = limit
				}
				began := time.Now()
				_, err := withDefaultTimeout(ctx, nil, nil, func(ctx context.Context, _ any) (any, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				})
				if took := time.Since(began); took != want || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("ended after %v with %v, want %v", took, err, want)
				}
			})
		})
	}
}

// serveAlone is a server without a loop: only events and health work.
func serveAlone(t *testing.T) (*server, *grpc.ClientConn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "w.sock")
	s, err := newServer(path)
	if err != nil {
		t.Fatal(err)
	}
	s.control(nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx) }()
	conn := dialWorker(t, path)
	t.Cleanup(func() {
		_ = conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, conn
}

// watchEvents returns once the worker records events for the stream.
func watchEvents(t *testing.T, conn *grpc.ClientConn) grpc.ServerStreamingClient[workerv1.WatchEventsResponse] {
	t.Helper()
	stream, err := workerv1.NewWorkerServiceClient(conn).WatchEvents(t.Context(), &workerv1.WatchEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	return stream
}

func closedEvent(id string) *workerv1.WatchEventsResponse {
	return &workerv1.WatchEventsResponse{Event: &workerv1.WatchEventsResponse_TransportClosed{
		TransportClosed: &workerv1.TransportClosedEvent{TransportId: id, Reason: strings.Repeat("r", 100)},
	}}
}

func TestEveryWatcherGetsEveryEvent(t *testing.T) {
	s, conn := serveAlone(t)
	streams := []grpc.ServerStreamingClient[workerv1.WatchEventsResponse]{watchEvents(t, conn), watchEvents(t, conn)}
	ids := []string{"a", "b", "c"}
	for _, id := range ids {
		s.events.publish(closedEvent(id))
	}
	for _, stream := range streams {
		for _, id := range ids {
			event, err := stream.Recv()
			if err != nil || event.GetTransportClosed().GetTransportId() != id {
				t.Fatalf("got %v, %v; want %s", event, err, id)
			}
		}
	}
}

func TestSlowWatcherIsEnded(t *testing.T) {
	s, conn := serveAlone(t)
	slow := watchEvents(t, conn)
	watching := func() int {
		s.events.mu.Lock()
		defer s.events.mu.Unlock()
		return len(s.events.watchers)
	}
	sent := 0
	for ; watching() > 0; sent++ {
		s.events.publish(closedEvent("x"))
		if sent > 1000*watcherQueue {
			t.Fatal("a watcher that never reads is never ended")
		}
	}
	next := watchEvents(t, conn) // another does not suffer
	s.events.publish(closedEvent("y"))
	if event, err := next.Recv(); err != nil || event.GetTransportClosed().GetTransportId() != "y" {
		t.Fatalf("got %v, %v", event, err)
	}
	got := 0
	for {
		_, err := slow.Recv()
		if err == nil {
			got++
			continue
		}
		if status.Code(err) != codes.ResourceExhausted || got != sent-1 {
			t.Fatalf("ended after %d of %d events with %v", got, sent, err)
		}
		return
	}
}

func TestWatchersAreBounded(t *testing.T) {
	s, conn := serveAlone(t)
	for range maxWatchers {
		watchEvents(t, conn)
	}
	stream, err := workerv1.NewWorkerServiceClient(conn).WatchEvents(t.Context(), &workerv1.WatchEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Fatalf("one too many: %v", err)
	}
	source := make(chan rtc.Event)
	close(source) // the loop has ended
	s.events.run(source)
	if _, err := s.events.watch(); err == nil {
		t.Fatal("a watcher of a worker that stops")
	}
}

func TestHealthFollowsTheLoop(t *testing.T) {
	s, conn := serveAlone(t)
	beats := make(chan time.Time)
	var moved atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.reportHealth(ctx, func() time.Time {
			select {
			case beat := <-beats:
				return beat
			case <-ctx.Done():
				return time.Time{}
			}
		}, func() { moved.Add(1) })
	}()
	stream, err := healthv1.NewHealthClient(conn).Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	await := func(want healthv1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		got, err := stream.Recv()
		if err != nil || got.GetStatus() != want {
			t.Fatalf("got %v, %v; want %v", got, err, want)
		}
	}
	await(healthv1.HealthCheckResponse_SERVING)
	beats <- time.Now().Add(-time.Minute)
	await(healthv1.HealthCheckResponse_NOT_SERVING)
	beats <- time.Now()
	await(healthv1.HealthCheckResponse_SERVING)
	cancel()
	<-ended
	await(healthv1.HealthCheckResponse_NOT_SERVING)
	if moved.Load() < 3 { // whatever the loop does
		t.Fatalf("the control side told %d times that it moves", moved.Load())
	}
}
