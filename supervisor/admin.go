package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	channelz "google.golang.org/grpc/channelz/service"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/errs/status"
	"github.com/dspeak/sfu/internal/ident"
	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
)

// adminService answers operators.
type adminService struct {
	adminv1.UnimplementedAdminServiceServer

	backend *backend
	upgrade *upgrader
}

const (
	// maxOperators bounds the connections of operators, which take descriptors that workers
	// need. Further ones wait.
	maxOperators = 12
	// operatorIdle is after how long a connection without a call gives way: clients dial
	// anew by themselves.
	operatorIdle = 3 * time.Second
)

// serveAdmin serves until ctx ends.
func serveAdmin(ctx context.Context, b *backend, u *upgrader, listener net.Listener) error {
	listener = netutil.LimitListener(listener, maxOperators)
	server := grpc.NewServer(
		grpc.UnaryInterceptor(status.UnaryServer), grpc.StreamInterceptor(status.StreamServer),
		grpc.ConnectionTimeout(operatorIdle), grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: operatorIdle}),
	)
	adminv1.RegisterAdminServiceServer(server, &adminService{backend: b, upgrade: u})
	checks := health.NewServer()
	healthv1.RegisterHealthServer(server, checks)
	channelz.RegisterChannelzServiceToServer(server)
	reflection.Register(server)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve admin: %w", err)
	case <-ctx.Done():
	}
	checks.Shutdown()
	force := time.AfterFunc(time.Second, server.Stop)
	server.GracefulStop()
	force.Stop()
	if err := <-failed; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve admin: %w", err)
	}
	return nil
}

func (s *adminService) ListWorkers(context.Context, *adminv1.ListWorkersRequest) (*adminv1.ListWorkersResponse, error) {
	infos := s.backend.workers.Workers()
	s.backend.registry.mu.Lock()
	loads := s.backend.loadsLocked(infos)
	s.backend.registry.mu.Unlock()
	resp := &adminv1.ListWorkersResponse{}
	for i, w := range infos {
		out := &adminv1.Worker{
			Slot: uint32(w.Slot), Pid: uint32(w.PID), Generation: uint64(w.Generation), State: string(w.State), //nolint:gosec // counts
			Version: w.Version, Draining: w.Draining, Quarantine: w.Reserve,
			Epoch: uint64(w.Epoch), Takeovers: uint32(w.Takeovers), //nolint:gosec // a count
			CpuShare: w.Usage.GetCpuShare(), ResidentBytes: w.Usage.GetResidentBytes(),
			Channels: uint32(loads[i].Channels), Transports: w.Usage.GetTransports(), //nolint:gosec // a count
			Producers: w.Usage.GetProducers(), Consumers: w.Usage.GetConsumers(), Restarts: uint32(w.Restarts), //nolint:gosec // a count
			PacketsReceived: w.Usage.GetPacketsReceived(), PacketsSent: w.Usage.GetPacketsSent(), PacketsDropped: w.Usage.GetPacketsDropped(),
			UptimeMs: uint64(time.Since(w.Since).Milliseconds()), //nolint:gosec // positive
		}
		if w.Takeovers > 0 {
			took := float64(w.LastTakeover) / float64(time.Millisecond)
			out.LastTakeoverMs = &took
		}
		if w.CPU >= 0 {
			cpu := uint32(w.CPU) //nolint:gosec // not negative
			out.Cpu = &cpu
		}
		out.SocketFaults = map[string]uint64{}
		for _, f := range socketFaults(w.Usage.GetSockets()) {
			if f.count > 0 {
				out.SocketFaults[f.cause] = f.count
			}
		}
		resp.Workers = append(resp.Workers, out)
	}
	return resp, nil
}

// RestartWorker implements the operators' restart.
func (s *adminService) RestartWorker(ctx context.Context, req *adminv1.RestartWorkerRequest) (*adminv1.RestartWorkerResponse, error) {
	if err := s.backend.workers.Restart(ctx, ident.Slot(req.GetSlot())); err != nil {
		return nil, err
	}
	w, err := s.worker(ctx, req.GetSlot())
	return &adminv1.RestartWorkerResponse{Worker: w}, err
}

// worker describes one slot, which exists.
func (s *adminService) worker(ctx context.Context, slot uint32) (*adminv1.Worker, error) {
	all, err := s.ListWorkers(ctx, nil)
	if err != nil {
		return nil, err
	}
	return all.GetWorkers()[slot], nil
}

func (s *adminService) ListChannels(context.Context, *adminv1.ListChannelsRequest) (*adminv1.ListChannelsResponse, error) {
	r := s.backend.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	resp := &adminv1.ListChannelsResponse{}
	for _, ch := range r.channels {
		resp.Channels = append(resp.Channels, ch.summaryLocked())
	}
	slices.SortFunc(resp.Channels, func(a, b *adminv1.ChannelSummary) int {
		return strings.Compare(a.GetChannelId(), b.GetChannelId())
	})
	return resp, nil
}

func (ch *channel) summaryLocked() *adminv1.ChannelSummary {
	out := &adminv1.ChannelSummary{
		ChannelId: string(ch.id), Users: uint32(len(ch.users)), Producers: uint32(len(ch.producers)), //nolint:gosec // counts
		AgeMs: uint64(time.Since(ch.created).Milliseconds()), //nolint:gosec // positive
	}
	for _, u := range ch.users {
		out.Consumers += uint32(len(u.consumers)) //nolint:gosec // a count
	}
	if ch.router != nil {
		slot := uint32(ch.router.slot)
		out.WorkerSlot = &slot
	}
	return out
}

// statsTimeout bounds how long a worker is asked for figures.
const statsTimeout = 2 * time.Second

// GetChannel joins the registry's picture with the worker's statistics.
func (s *adminService) GetChannel(ctx context.Context, req *adminv1.GetChannelRequest) (*adminv1.GetChannelResponse, error) {
	r := s.backend.registry
	r.mu.Lock()
	ch := r.channels[ident.ChannelID(req.GetChannelId())]
	if ch == nil {
		r.mu.Unlock()
		return nil, fmt.Errorf("channel %q: %w", req.GetChannelId(), errs.ErrNotFound)
	}
	resp := ch.describeLocked()
	router := ch.router
	r.mu.Unlock()
	client, err := s.backend.client(router)
	if err != nil {
		return resp, nil // nobody has figures
	}
	ctx, cancel := context.WithTimeout(ctx, statsTimeout)
	defer cancel()
	// The router may end while it is asked, and a worker that hangs is not waited for:
	// who is in the channel is known without it.
	if err := addStatistics(ctx, client, router.id, resp); err != nil && !uncertain(err) && !errors.Is(err, errs.ErrNotFound) {
		return nil, err
	}
	return resp, nil
}

func (ch *channel) describeLocked() *adminv1.GetChannelResponse {
	resp := &adminv1.GetChannelResponse{Summary: ch.summaryLocked()}
	for _, u := range ch.users {
		user := &adminv1.User{UserId: string(u.id), Sockets: uint32(len(u.sessions))} //nolint:gosec // a count
		if u.producer != nil {
			id := string(u.producer.id)
			user.ProducerId = &id
		}
		for _, t := range u.transports {
			user.Transports = append(user.Transports, &adminv1.Transport{TransportId: string(t.id)})
		}
		resp.Users = append(resp.Users, user)
		for _, c := range u.consumers {
			resp.Hearings = append(resp.Hearings, &adminv1.Hearing{
				ListenerUserId: string(u.id), SpeakerUserId: string(c.producer.user.id),
				ConsumerId: string(c.id), ProducerId: string(c.producer.id),
			})
		}
	}
	slices.SortFunc(resp.Hearings, func(a, b *adminv1.Hearing) int {
		return cmp.Or(strings.Compare(a.GetListenerUserId(), b.GetListenerUserId()), strings.Compare(a.GetSpeakerUserId(), b.GetSpeakerUserId()))
	})
	return resp
}

// addStatistics fills in what the worker knows.
func addStatistics(ctx context.Context, client workerv1.WorkerServiceClient, id ident.RouterID, resp *adminv1.GetChannelResponse) error {
	dump, err := client.Dump(ctx, &workerv1.DumpRequest{RouterId: string(id)})
	if err != nil {
		return err
	}
	stats, err := client.GetStats(ctx, &workerv1.GetStatsRequest{Target: &workerv1.GetStatsRequest_RouterId{RouterId: string(id)}})
	if err != nil {
		return err
	}
	transports := map[string]*workerv1.TransportDump{}
	for _, r := range dump.GetWorker().GetRouters() {
		for _, t := range r.GetTransports() {
			transports[t.GetId()] = t
		}
	}
	producers := map[string]*workerv1.ProducerStats{}
	for _, p := range stats.GetProducers() {
		producers[p.GetProducerId()] = p
	}
	consumers := map[string]*workerv1.ConsumerStats{}
	for _, c := range stats.GetConsumers() {
		consumers[c.GetConsumerId()] = c
	}
	for _, u := range resp.GetUsers() {
		for _, t := range u.GetTransports() {
			describeTransport(t, transports[t.GetTransportId()])
		}
		if p := producers[u.GetProducerId()]; p != nil {
			u.Uplink = &adminv1.Link{
				Packets: p.GetPackets(), Bytes: p.GetBytes(), PacketsLost: p.GetPacketsLost(), JitterMs: &p.JitterMs,
				RoundTripTimeMs: p.RoundTripTimeMs, AudioLevelDbov: p.AudioLevelDbov, LastPacketAgeMs: p.LastPacketAgeMs,
			}
		}
	}
	for _, h := range resp.GetHearings() {
		if c := consumers[h.GetConsumerId()]; c != nil {
			h.Paused = c.GetPaused() || c.GetProducerPaused()
			h.Link = &adminv1.Link{
				Packets: c.GetPackets(), Bytes: c.GetBytes(), PacketsLost: c.GetPacketsLost(), FractionLost: c.GetFractionLost(),
				JitterMs: c.JitterMs, RoundTripTimeMs: c.RoundTripTimeMs, AudioLevelDbov: c.AudioLevelDbov, LastPacketAgeMs: c.LastPacketAgeMs,
			}
		}
	}
	return nil
}

func describeTransport(t *adminv1.Transport, d *workerv1.TransportDump) {
	t.IceState = strings.ToLower(strings.TrimPrefix(d.GetIceState().String(), "ICE_STATE_"))
	t.DtlsState = strings.ToLower(strings.TrimPrefix(d.GetDtlsState().String(), "DTLS_STATE_"))
	t.SrtpProfile = d.GetSrtpProfile()
	t.Protocol = d.GetIceSelectedTuple().GetProtocol()
	t.RemoteAddress = d.GetIceSelectedTuple().GetRemoteAddress()
	t.RemotePort = d.GetIceSelectedTuple().GetRemotePort()
}

func (s *adminService) KickUser(ctx context.Context, req *adminv1.KickUserRequest) (*adminv1.KickUserResponse, error) {
	if req.GetChannelId() == "" || req.GetUserId() == "" {
		return nil, fmt.Errorf("kick: channel and user are both needed: %w", errs.ErrInvalid)
	}
	r := s.backend.registry
	r.mu.Lock()
	ch := r.channels[ident.ChannelID(req.GetChannelId())]
	present := ch != nil && ch.user(ident.UserID(req.GetUserId())) != nil
	r.mu.Unlock()
	if !present {
		return nil, fmt.Errorf("user %q in channel %q: %w", req.GetUserId(), req.GetChannelId(), errs.ErrNotFound)
	}
	n := s.backend.kick(ctx, ident.UserID(req.GetUserId()), ident.ChannelID(req.GetChannelId()), req.GetReason())
	return &adminv1.KickUserResponse{Sockets: uint32(n)}, nil //nolint:gosec // a count
}
