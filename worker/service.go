package worker

import (
	"context"
	"fmt"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/worker/rtc"
)

// service answers the control calls. Each runs on the media loop and is bounded by
// the caller's deadline, or by the server's default.
type service struct {
	workerv1.UnimplementedWorkerServiceServer

	loop   *rtc.Loop
	events *hub
	usage  *usageReader
}

// maxID bounds an identifier, in bytes.
const maxID = 128

// checkNewID refuses identifiers that operators could not type or read: printable
// ASCII without spaces, 1 to 128 bytes.
func checkNewID(what, id string) error {
	if id == "" || len(id) > maxID {
		return fmt.Errorf("%s id of %d bytes, want 1 to %d: %w", what, len(id), maxID, errs.ErrInvalid)
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return fmt.Errorf("%s id %q, want printable ASCII: %w", what, id, errs.ErrInvalid)
		}
	}
	return nil
}

func (s *service) CreateRouter(ctx context.Context, req *workerv1.CreateRouterRequest) (*workerv1.CreateRouterResponse, error) {
	if err := checkNewID("router", req.GetRouterId()); err != nil {
		return nil, err
	}
	caps, err := s.loop.CreateRouter(ctx, ident.RouterID(req.GetRouterId()), req.GetAppData())
	if err != nil {
		return nil, err
	}
	return &workerv1.CreateRouterResponse{RtpCapabilities: fromRtpCapabilities(caps)}, nil
}

func (s *service) CloseRouter(ctx context.Context, req *workerv1.CloseRouterRequest) (*workerv1.CloseRouterResponse, error) {
	return &workerv1.CloseRouterResponse{}, s.loop.CloseRouter(ctx, ident.RouterID(req.GetRouterId()))
}

func (s *service) SetRouterAppData(ctx context.Context, req *workerv1.SetRouterAppDataRequest) (*workerv1.SetRouterAppDataResponse, error) {
	return &workerv1.SetRouterAppDataResponse{}, s.loop.SetRouterAppData(ctx, ident.RouterID(req.GetRouterId()), req.GetAppData())
}

func (s *service) SetTransportAppData(ctx context.Context, req *workerv1.SetTransportAppDataRequest) (*workerv1.SetTransportAppDataResponse, error) {
	return &workerv1.SetTransportAppDataResponse{}, s.loop.SetTransportAppData(ctx, ident.TransportID(req.GetTransportId()), req.GetAppData())
}

func (s *service) CreateTransport(ctx context.Context, req *workerv1.CreateTransportRequest) (*workerv1.CreateTransportResponse, error) {
	if err := checkNewID("transport", req.GetTransportId()); err != nil {
		return nil, err
	}
	family, err := toFamily(req.GetFamily())
	if err != nil {
		return nil, err
	}
	announced, err := toAnnounced(req.GetAnnounced())
	if err != nil {
		return nil, err
	}
	info, err := s.loop.CreateTransport(ctx, rtc.CreateTransportParams{
		Router: ident.RouterID(req.GetRouterId()), ID: ident.TransportID(req.GetTransportId()),
		Family: family, Announced: announced, AppData: req.GetAppData(),
	})
	if err != nil {
		return nil, err
	}
	return fromTransportInfo(info), nil
}

func (s *service) ConnectTransport(ctx context.Context, req *workerv1.ConnectTransportRequest) (*workerv1.ConnectTransportResponse, error) {
	params, err := toDtlsParameters(req.GetDtlsParameters())
	if err != nil {
		return nil, err
	}
	role, err := s.loop.ConnectTransport(ctx, ident.TransportID(req.GetTransportId()), params)
	if err != nil {
		return nil, err
	}
	return &workerv1.ConnectTransportResponse{DtlsLocalRole: role}, nil
}

func (s *service) CloseTransport(ctx context.Context, req *workerv1.CloseTransportRequest) (*workerv1.CloseTransportResponse, error) {
	return &workerv1.CloseTransportResponse{}, s.loop.CloseTransport(ctx, ident.TransportID(req.GetTransportId()))
}

func (s *service) Produce(ctx context.Context, req *workerv1.ProduceRequest) (*workerv1.ProduceResponse, error) {
	if err := checkNewID("producer", req.GetProducerId()); err != nil {
		return nil, err
	}
	params, err := toRtpParameters(req.GetRtpParameters())
	if err != nil {
		return nil, err
	}
	consumable, err := s.loop.Produce(ctx, rtc.ProduceParams{
		Transport: ident.TransportID(req.GetTransportId()), ID: ident.ProducerID(req.GetProducerId()),
		Kind: req.GetKind(), RtpParameters: params, Paused: req.GetPaused(),
	})
	if err != nil {
		return nil, err
	}
	return &workerv1.ProduceResponse{ConsumableRtpParameters: fromRtpParameters(consumable)}, nil
}

func (s *service) PauseProducer(ctx context.Context, req *workerv1.PauseProducerRequest) (*workerv1.PauseProducerResponse, error) {
	return &workerv1.PauseProducerResponse{}, s.loop.PauseProducer(ctx, ident.ProducerID(req.GetProducerId()))
}

func (s *service) ResumeProducer(ctx context.Context, req *workerv1.ResumeProducerRequest) (*workerv1.ResumeProducerResponse, error) {
	return &workerv1.ResumeProducerResponse{}, s.loop.ResumeProducer(ctx, ident.ProducerID(req.GetProducerId()))
}

func (s *service) CloseProducer(ctx context.Context, req *workerv1.CloseProducerRequest) (*workerv1.CloseProducerResponse, error) {
	return &workerv1.CloseProducerResponse{}, s.loop.CloseProducer(ctx, ident.ProducerID(req.GetProducerId()))
}

func (s *service) Consume(ctx context.Context, req *workerv1.ConsumeRequest) (*workerv1.ConsumeResponse, error) {
	if err := checkNewID("consumer", req.GetConsumerId()); err != nil {
		return nil, err
	}
	caps, err := toRtpCapabilities(req.GetRtpCapabilities())
	if err != nil {
		return nil, err
	}
	result, err := s.loop.Consume(ctx, rtc.ConsumeParams{
		Transport: ident.TransportID(req.GetTransportId()), ID: ident.ConsumerID(req.GetConsumerId()),
		Producer: ident.ProducerID(req.GetProducerId()), RtpCapabilities: caps, Paused: req.GetPaused(),
	})
	if err != nil {
		return nil, err
	}
	return &workerv1.ConsumeResponse{
		Kind: result.Kind, RtpParameters: fromRtpParameters(result.RtpParameters), ProducerPaused: result.ProducerPaused,
	}, nil
}

func (s *service) PauseConsumer(ctx context.Context, req *workerv1.PauseConsumerRequest) (*workerv1.PauseConsumerResponse, error) {
	return &workerv1.PauseConsumerResponse{}, s.loop.PauseConsumer(ctx, ident.ConsumerID(req.GetConsumerId()))
}

func (s *service) ResumeConsumer(ctx context.Context, req *workerv1.ResumeConsumerRequest) (*workerv1.ResumeConsumerResponse, error) {
	return &workerv1.ResumeConsumerResponse{}, s.loop.ResumeConsumer(ctx, ident.ConsumerID(req.GetConsumerId()))
}

func (s *service) CloseConsumer(ctx context.Context, req *workerv1.CloseConsumerRequest) (*workerv1.CloseConsumerResponse, error) {
	return &workerv1.CloseConsumerResponse{}, s.loop.CloseConsumer(ctx, ident.ConsumerID(req.GetConsumerId()))
}

func (s *service) Dump(ctx context.Context, req *workerv1.DumpRequest) (*workerv1.DumpResponse, error) {
	dump, err := s.loop.Dump(ctx, ident.RouterID(req.GetRouterId()))
	if err != nil {
		return nil, err
	}
	return &workerv1.DumpResponse{Worker: fromWorkerDump(dump)}, nil
}

func (s *service) GetStats(ctx context.Context, req *workerv1.GetStatsRequest) (*workerv1.GetStatsResponse, error) {
	stats, err := s.loop.Stats(ctx, rtc.StatsTarget{
		Router: ident.RouterID(req.GetRouterId()), Transport: ident.TransportID(req.GetTransportId()),
		Producer: ident.ProducerID(req.GetProducerId()), Consumer: ident.ConsumerID(req.GetConsumerId()),
	})
	if err != nil {
		return nil, err
	}
	return fromStats(stats), nil
}

func (s *service) GetResourceUsage(ctx context.Context, _ *workerv1.GetResourceUsageRequest) (*workerv1.GetResourceUsageResponse, error) {
	usage, err := s.usage.read(ctx)
	if err != nil {
		return nil, err
	}
	return &workerv1.GetResourceUsageResponse{Usage: usage}, nil
}

func (s *service) WatchEvents(_ *workerv1.WatchEventsRequest, stream workerv1.WorkerService_WatchEventsServer) error {
	w, err := s.events.watch()
	if err != nil {
		return err
	}
	defer s.events.leave(w)
	// The header tells the caller that from now on it misses nothing.
	if err := stream.SendHeader(nil); err != nil {
		return fmt.Errorf("send header: %w", err)
	}
	for {
		select {
		case event, ok := <-w.events:
			if !ok {
				return w.ended
			}
			if err := stream.Send(event); err != nil {
				return fmt.Errorf("send event: %w", err)
			}
		case <-stream.Context().Done():
			return fmt.Errorf("event watcher left: %w", errs.ErrClosed)
		}
	}
}
