package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
)

// fakeSupervisor answers with fixed figures.
type fakeSupervisor struct {
	adminv1.UnimplementedAdminServiceServer
	kicked chan *adminv1.KickUserRequest
}

func (fakeSupervisor) ListWorkers(context.Context, *adminv1.ListWorkersRequest) (*adminv1.ListWorkersResponse, error) {
	return &adminv1.ListWorkersResponse{Workers: []*adminv1.Worker{
		{Slot: 0, State: "ready", Pid: 4711, Generation: 2, Cpu: new(uint32(1)), CpuShare: 0.125, ResidentBytes: 3 << 20, Channels: 5, PacketsSent: 99, Restarts: 1, SocketFaults: map[string]uint64{"send_buffer_full": 7, "destination_refused": 3}},
		{Slot: 1, State: "backoff"},
	}}, nil
}

func (fakeSupervisor) ListChannels(context.Context, *adminv1.ListChannelsRequest) (*adminv1.ListChannelsResponse, error) {
	return &adminv1.ListChannelsResponse{Channels: []*adminv1.ChannelSummary{
		{ChannelId: "lobby\x1b[2J", WorkerSlot: new(uint32(0)), Users: 2, Producers: 1, Consumers: 1, AgeMs: 61_000},
	}}, nil
}

func (fakeSupervisor) GetChannel(_ context.Context, r *adminv1.GetChannelRequest) (*adminv1.GetChannelResponse, error) {
	if r.GetChannelId() != "lobby" {
		return nil, status.Errorf(codes.NotFound, "channel %q: not found", r.GetChannelId())
	}
	return &adminv1.GetChannelResponse{
		Summary: &adminv1.ChannelSummary{ChannelId: "lobby", Users: 2},
		Users: []*adminv1.User{
			{
				UserId: "ann", Sockets: 1, ProducerId: new("p"), Uplink: &adminv1.Link{Packets: 50, JitterMs: new(1.5), AudioLevelDbov: new(int32(-20))},
				Transports: []*adminv1.Transport{{TransportId: "t", IceState: "connected", DtlsState: "connected", Protocol: "udp", RemoteAddress: "2001:db8::1", RemotePort: 4000}},
			},
			{UserId: "bob"},
		},
		Hearings: []*adminv1.Hearing{{ListenerUserId: "bob", SpeakerUserId: "ann", Paused: true, Link: &adminv1.Link{Packets: 49, PacketsLost: 1, RoundTripTimeMs: new(7.0)}}},
	}, nil
}

func (f fakeSupervisor) KickUser(_ context.Context, r *adminv1.KickUserRequest) (*adminv1.KickUserResponse, error) {
	f.kicked <- r
	return &adminv1.KickUserResponse{Sockets: 2}, nil
}

func (fakeSupervisor) Upgrade(context.Context, *adminv1.UpgradeRequest) (*adminv1.UpgradeResponse, error) {
	return nil, status.Error(codes.Unavailable, "worker 0 does not serve with the new program")
}

// serve runs a fake supervisor and returns it with the path of its socket.
func serve(t *testing.T) (fakeSupervisor, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "supervisor.sock")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	f := fakeSupervisor{kicked: make(chan *adminv1.KickUserRequest, 1)}
	server := grpc.NewServer()
	adminv1.RegisterAdminServiceServer(server, f)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f, path
}

// run is one call of the program.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := command()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// squeeze makes a table's columns one space apart.
func squeeze(s string) string {
	var lines []string
	for line := range strings.Lines(s) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

func TestTables(t *testing.T) {
	_, path := serve(t)
	for _, row := range []struct {
		args []string
		want []string
	}{
		{[]string{"workers"}, []string{"0 ready 4711 2 1 12.5% 3.0 MiB 5 0 0 0 99 0 1", "1 backoff 0 0 - 0.0%", "WORKER SOCKET FAULT COUNT\n0 destination_refused 3\n0 send_buffer_full 7"}},
		{[]string{"channels"}, []string{`"lobby\x1b[2J" 0 2 1 1 1m1s`}},
		{[]string{"channel", "lobby"}, []string{
			`"ann" 1 t connected connected udp [2001:db8::1]:4000`, `"bob" 0 - - -`,
			`"ann" 50 0 1.5 ms - -20 dBov -`, `"bob" "ann" 49 1 - 7.0 ms - - (paused)`,
		}},
	} {
		t.Run(row.args[0], func(t *testing.T) {
			out, err := run(t, append(row.args, "--socket", path)...)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range row.want {
				if !strings.Contains(squeeze(out), want) {
					t.Errorf("no line %q in\n%s", want, out)
				}
			}
			out, err = run(t, append(row.args, "--socket", path, "--json")...)
			if err != nil || !json.Valid([]byte(out)) {
				t.Errorf("JSON %q, %v", out, err)
			}
		})
	}
}

func TestKick(t *testing.T) {
	f, path := serve(t)
	out, err := run(t, "kick", "lobby", "ann", "--reason", "be nice", "--socket", path)
	if err != nil || !strings.Contains(out, "2 sockets") {
		t.Fatalf("%q, %v", out, err)
	}
	if r := <-f.kicked; r.GetChannelId() != "lobby" || r.GetUserId() != "ann" || r.GetReason() != "be nice" {
		t.Fatalf("asked for %v", r)
	}
}

func TestFaults(t *testing.T) {
	_, path := serve(t)
	t.Setenv("DSPEAK_RUN_DIR", "/nowhere")
	for name, row := range map[string]struct {
		args []string
		want string
	}{
		"no supervisor":   {[]string{"workers"}, "no supervisor answers on /nowhere/supervisor.sock; start it"},
		"no such channel": {[]string{"channel", "attic", "--socket", path}, `channel "attic": not found`},
		"no new worker":   {[]string{"upgrade", "--socket", path}, "worker 0 does not serve with the new program"},
		"a missing word":  {[]string{"kick", "lobby", "--socket", path}, "accepts 2 arg(s), received 1"},
		"another command": {[]string{"dance"}, `unknown command "dance"`},
		"another flag":    {[]string{"workers", "--loud"}, "unknown flag: --loud"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := run(t, row.args...); err == nil || !strings.HasPrefix(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}
