package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/dspeak/sfu/internal/config"
	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/errs/status"
	"github.com/dspeak/sfu/internal/handoff"
	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/signaling/wire"
	"github.com/dspeak/sfu/supervisor/process"
	"github.com/dspeak/sfu/supervisor/service"
)

// admin serves the lab's admin service and returns a connection to it.
func (l *lab) admin() *grpc.ClientConn {
	l.t.Helper()
	path := filepath.Join(l.t.TempDir(), "admin.sock")
	listener, err := handoff.ListenPath("unix", path)
	if err != nil {
		l.t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		l.t.Fatalf("socket %v, %v", info, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serveAdmin(ctx, l.backend, &upgrader{self: &service.Self{}}, listener) }()
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUnaryInterceptor(status.UnaryClient))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		_ = conn.Close()
		stop()
		if err := <-done; err != nil {
			l.t.Error(err)
		}
	})
	return conn
}

// TestOperatorsAreBounded: programs that ask once and keep their connections are all
// answered, and take no more descriptors than are reserved for them.
func TestOperatorsAreBounded(t *testing.T) {
	l := newLab(t, 1)
	target := l.admin().Target()
	before := descriptorsInUse(t)
	for range 3 * maxOperators {
		conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		ctx, cancel := context.WithTimeout(t.Context(), 4*operatorIdle)
		_, err = adminv1.NewAdminServiceClient(conn).ListWorkers(ctx, &adminv1.ListWorkersRequest{})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		// Both ends of a connection are in this process, the clients' for a moment longer.
		if now := descriptorsInUse(t) - before; now > 4*maxOperators {
			t.Fatalf("%d more descriptors", now)
		}
	}
}

func descriptorsInUse(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("the system does not tell")
	}
	return len(entries)
}

func TestAdminService(t *testing.T) {
	l := newLab(t, 2)
	conn := l.admin()
	client := adminv1.NewAdminServiceClient(conn)
	a, b := l.join("ann", "c"), l.join("bob", "c")
	send := a.transport()
	producer := a.produce("")
	b.transport()
	consumer := b.consume(producer).field("id")
	l.join("cid", "quiet")
	l.pool.change(1, func(w *process.WorkerInfo) {
		w.CPU, w.Restarts, w.Usage = -1, 3, &workerv1.ResourceUsage{PacketsSent: 9, Sockets: &workerv1.MediaSocketStats{KernelDrops: 4, BytesSent: 8}}
	})

	workers, err := client.ListWorkers(t.Context(), &adminv1.ListWorkersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	one, two := workers.GetWorkers()[0], workers.GetWorkers()[1]
	if one.GetState() != "ready" || one.GetPid() != 100 || one.Cpu == nil || one.GetChannels() != 1 {
		t.Fatalf("worker %v", one)
	}
	if two.Cpu != nil || two.GetRestarts() != 3 || two.GetPacketsSent() != 9 || two.GetChannels() != 0 {
		t.Fatalf("worker %v", two)
	}

	if f := two.GetSocketFaults(); len(f) != 1 || f["receive_buffer_full"] != 4 || len(one.GetSocketFaults()) != 0 {
		t.Fatalf("socket faults %v and %v", one.GetSocketFaults(), f)
	}

	channels, err := client.ListChannels(t.Context(), &adminv1.ListChannelsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	busy, quiet := channels.GetChannels()[0], channels.GetChannels()[1]
	if busy.GetChannelId() != "c" || busy.GetUsers() != 2 || busy.GetProducers() != 1 || busy.GetConsumers() != 1 || busy.WorkerSlot == nil {
		t.Fatalf("channel %v", busy)
	}
	if quiet.GetChannelId() != "quiet" || quiet.WorkerSlot != nil {
		t.Fatalf("channel %v", quiet)
	}

	got, err := client.GetChannel(t.Context(), &adminv1.GetChannelRequest{ChannelId: "c"})
	if err != nil {
		t.Fatal(err)
	}
	ann := got.GetUsers()[0]
	if ann.GetUserId() != "ann" || ann.GetSockets() != 1 || ann.GetProducerId() != producer || ann.GetUplink().GetPackets() != 50 || ann.GetUplink().GetAudioLevelDbov() != -20 {
		t.Fatalf("user %v", ann)
	}
	if tr := ann.GetTransports()[0]; tr.GetTransportId() != send || tr.GetIceState() != "connected" || tr.GetDtlsState() != "new" || tr.GetRemotePort() != 4000 {
		t.Fatalf("transport %v", tr)
	}
	h := got.GetHearings()[0]
	if h.GetListenerUserId() != "bob" || h.GetSpeakerUserId() != "ann" || h.GetConsumerId() != consumer || !h.GetPaused() ||
		h.GetLink().GetPacketsLost() != 1 || h.GetLink().GetRoundTripTimeMs() != 7 {
		t.Fatalf("hearing %v", h)
	}

	t.Run("a worker without an answer", func(t *testing.T) {
		l.workers[0].hooks(func(context.Context, string) error { return context.DeadlineExceeded }, nil)
		defer l.workers[0].hooks(nil, nil)
		got, err := client.GetChannel(t.Context(), &adminv1.GetChannelRequest{ChannelId: "c"})
		if err != nil || len(got.GetUsers()) != 2 {
			t.Fatalf("channel %v, %v", got, err)
		}
	})
	t.Run("kick", func(t *testing.T) {
		for _, req := range []*adminv1.KickUserRequest{{ChannelId: "c"}, {UserId: "ann"}} {
			if _, err := client.KickUser(t.Context(), req); !errors.Is(err, errs.ErrInvalid) {
				t.Errorf("%v: %v", req, err)
			}
		}
		if _, err := client.KickUser(t.Context(), &adminv1.KickUserRequest{ChannelId: "c", UserId: "nobody"}); !errors.Is(err, errs.ErrNotFound) {
			t.Errorf("nobody: %v", err)
		}
		resp, err := client.KickUser(t.Context(), &adminv1.KickUserRequest{ChannelId: "c", UserId: "ann"})
		if err != nil || resp.GetSockets() != 1 {
			t.Fatalf("kick: %v, %v", resp, err)
		}
		all, code := a.ended()
		if code != wire.ClosePolicy || all[len(all)-1].Reason != defaultKickReason {
			t.Fatalf("ann is told %v, %d", types(all), code)
		}
		if _, err := client.GetChannel(t.Context(), &adminv1.GetChannelRequest{ChannelId: "gone"}); !errors.Is(err, errs.ErrNotFound) {
			t.Errorf("no such channel: %v", err)
		}
	})
	t.Run("reflection and health", func(t *testing.T) { testReflection(t, conn) })
}

func testReflection(t *testing.T, conn *grpc.ClientConn) {
	t.Helper()
	check, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil || check.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Fatalf("health %v, %v", check, err)
	}
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	for _, want := range []string{"dspeak.admin.v1.AdminService", "grpc.health.v1.Health", "grpc.channelz.v1.Channelz"} {
		if !slices.Contains(names, want) {
			t.Errorf("services %v lack %s", names, want)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
}

// get asks the public port.
func (l *lab) get(environment, path string) (int, string) {
	l.t.Helper()
	server := newHTTPServer(l.backend, l.sockets, config.Config{Environment: environment}, slog.New(slog.DiscardHandler))
	recorder := httptest.NewRecorder()
	server.Handler.ServeHTTP(recorder, httptest.NewRequestWithContext(l.t.Context(), http.MethodGet, path, nil))
	return recorder.Code, recorder.Body.String()
}

func TestHTTP(t *testing.T) {
	l := newLab(t, 1)
	a := l.join("ann", "c")
	a.transport()
	a.must("produce", `{}`, "error")
	l.pool.change(0, func(w *process.WorkerInfo) {
		w.Usage = &workerv1.ResourceUsage{PacketsSent: 1234, PaddingBytes: 77, Sockets: &workerv1.MediaSocketStats{
			BytesReceived: 1, BytesSent: 2, KernelDrops: 3, Truncated: 4, Refused: 5, WouldBlock: 6, SegmentationRefused: 7,
			TcpRefused: 8, TcpDropped: 9, TcpBadFrames: 10, MaxSegments: 16,
		}}
	})
	if code, body := l.get(config.Production, "/health"); code != http.StatusOK || body != "dspeak v2 API is running" {
		t.Errorf("health %d %q", code, body)
	}
	_, body := l.get(config.Production, "/metrics")
	for _, line := range []string{
		"dspeak_channels 1", "dspeak_users 1", "dspeak_signaling_sessions 1", "dspeak_kicks_total 0", `dspeak_workers{state="ready"} 1`,
		`dspeak_worker_packets_sent_total{slot="0"} 1234`, `dspeak_worker_restarts_total{slot="0"} 0`,
		`dspeak_requests_refused_total{kind="invalid"} 1`, `dspeak_requests_refused_total{kind="internal"} 0`,
		`dspeak_worker_padding_bytes_total{slot="0"} 77`,
		`dspeak_worker_bytes_received_total{slot="0"} 1`, `dspeak_worker_bytes_sent_total{slot="0"} 2`, `dspeak_worker_segments{slot="0"} 16`,
		`dspeak_worker_socket_faults_total{cause="receive_buffer_full",slot="0"} 3`,
		`dspeak_worker_socket_faults_total{cause="datagram_too_long",slot="0"} 4`,
		`dspeak_worker_socket_faults_total{cause="destination_refused",slot="0"} 5`,
		`dspeak_worker_socket_faults_total{cause="send_buffer_full",slot="0"} 6`,
		`dspeak_worker_socket_faults_total{cause="segmentation_refused",slot="0"} 7`,
		`dspeak_worker_socket_faults_total{cause="tcp_connection_refused",slot="0"} 8`,
		`dspeak_worker_socket_faults_total{cause="tcp_queue_full",slot="0"} 9`,
		`dspeak_worker_socket_faults_total{cause="tcp_frame_too_long",slot="0"} 10`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("metrics lack %s", line)
		}
	}
	if code, _ := l.get(config.Production, "/"); code != http.StatusNotFound {
		t.Errorf("the page is served in production: %d", code)
	}
	if code, body := l.get(config.Development, "/"); code != http.StatusOK || !strings.Contains(body, "<html") {
		t.Errorf("the page: %d %.80q", code, body)
	}
	if code, body := l.get(config.Development, "/socket"); code != http.StatusUpgradeRequired || !strings.Contains(body, "websocketUrl") {
		t.Errorf("a socket without an upgrade: %d %q", code, body)
	}
	l.crash(0)
	if code, _ := l.get(config.Production, "/health"); code != http.StatusServiceUnavailable {
		t.Errorf("health without workers %d", code)
	}
}

func TestPlannedStop(t *testing.T) {
	l := newLab(t, 1)
	a, b := l.join("ann", "c"), l.join("bob", "c")
	a.transport()
	l.leave(b)
	a.drain()
	l.main.take()
	s := &supervisor{cfg: config.Config{Workers: config.Workers{StopTimeout: 5 * time.Second}}, log: l.backend.log, backend: l.backend, sockets: l.sockets}
	s.announceStop(t.Context())
	all, code := a.ended()
	wantTypes(t, "ann", all, "server-shutdown")
	if code != wire.CloseGoingAway || all[0].field("reason") == "" || !strings.Contains(string(all[0].Data), `"eta":5`) {
		t.Fatalf("told %s, closed with %d", all[0].raw, code)
	}
	if told := l.main.take(); !strings.Contains(told[0], `"status":"error"`) || !strings.Contains(strings.Join(told, ""), `"leave"`) {
		t.Fatalf("the main server is told %q", told)
	}
	if _, resp, err := l.dial("late", "c"); err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("a late socket: %v, %v", resp, err)
	}
}

// TestRunRefusesWhatIsOccupied: one clear line, and nothing stays behind.
func TestRunRefusesWhatIsOccupied(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	_, text, err := net.SplitHostPort(taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	free := t.TempDir() + "/run"
	for name, row := range map[string]struct {
		cfg  config.Config
		want string
	}{
		"HTTP port": {config.Config{RunDir: free, HTTP: config.HTTP{Host: "127.0.0.1", Port: port}}, "PORT"},
		"media port": {config.Config{
			RunDir: free, HTTP: config.HTTP{Host: "127.0.0.1"}, Media: config.Media{Port: port, IPv4Port: port, IPv6Port: port},
		}, "SFU_PORT"},
		"run directory":  {config.Config{RunDir: file}, "DSPEAK_RUN_DIR"},
		"too many ports": {config.Config{RunDir: free, Media: config.Media{Port: 65535}}, "SFU_PORT"},
	} {
		t.Run(name, func(t *testing.T) {
			row.cfg.Workers = config.Workers{Count: 1}
			err := Run(t.Context(), row.cfg, Process{Log: slog.New(slog.DiscardHandler), Hurry: t.Context()})
			if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %v, want a line that names %s", err, row.want)
			}
			if _, err := os.Stat(free); err == nil {
				t.Fatal("the run directory stays behind")
			}
		})
	}
}
