package supervisor

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/errs/status"
	"github.com/dspeak/sfu/internal/ident"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
)

// fakeWorker keeps the object tree of a worker without any media.
type fakeWorker struct {
	workerv1.UnimplementedWorkerServiceServer

	mu    sync.Mutex
	epoch ident.Epoch // guarded by mu
	// requests are those that made the objects, by id; guarded by mu.
	requests map[string]proto.Message
	appData  map[string][]byte // of routers and transports; guarded by mu
	roles    map[string]string // of connected transports; guarded by mu
	paused   map[string]bool   // producers and consumers; guarded by mu
	// objects by id: what each is made on. All guarded by mu.
	routers    map[string]bool
	transports map[string]string
	producers  map[string]string
	consumers  map[string][2]string // transport, producer
	families   []workerv1.AddressFamily
	calls      []string
	// before runs ahead of each call, without mu; its error is the call's.
	before func(ctx context.Context, call string) error
	// after runs when the call had its effect.
	after func(ctx context.Context, call string) error
}

func newFakeWorker() *fakeWorker {
	return &fakeWorker{
		epoch: 1, requests: map[string]proto.Message{}, appData: map[string][]byte{}, roles: map[string]string{}, paused: map[string]bool{},
		routers: map[string]bool{}, transports: map[string]string{}, producers: map[string]string{}, consumers: map[string][2]string{},
	}
}

func (w *fakeWorker) hooks(before, after func(context.Context, string) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before, w.after = before, after
}

// intercept records each call and runs the hooks.
func (w *fakeWorker) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	name := info.FullMethod[strings.LastIndexByte(info.FullMethod, '/')+1:]
	w.mu.Lock()
	before, after := w.before, w.after
	w.mu.Unlock()
	if before != nil {
		if err := before(ctx, name); err != nil {
			return nil, status.FromError(err)
		}
	}
	w.mu.Lock()
	w.calls = append(w.calls, name)
	resp, err := handler(ctx, req)
	w.mu.Unlock()
	if err == nil && after != nil {
		err = after(ctx, name)
	}
	return resp, status.FromError(err)
}

// again says whether a call was made before; another one with its id is refused.
func (w *fakeWorker) again(id string, req proto.Message) (bool, error) {
	former := w.requests[id]
	switch {
	case former == nil:
		return false, nil
	case !proto.Equal(former, req):
		return false, fmt.Errorf("%s: %w", id, errs.ErrExists)
	}
	return true, nil
}

func missing(kind, id string) error { return fmt.Errorf("%s %s: %w", kind, id, errs.ErrNotFound) }

func (w *fakeWorker) CreateRouter(_ context.Context, r *workerv1.CreateRouterRequest) (*workerv1.CreateRouterResponse, error) {
	if known, err := w.again(r.GetRouterId(), r); known || err != nil {
		return &workerv1.CreateRouterResponse{RtpCapabilities: opus()}, err
	}
	w.routers[r.GetRouterId()] = true
	w.requests[r.GetRouterId()], w.appData[r.GetRouterId()] = r, r.GetAppData()
	return &workerv1.CreateRouterResponse{RtpCapabilities: opus()}, nil
}

func opus() *workerv1.RtpCapabilities {
	return &workerv1.RtpCapabilities{Codecs: []*workerv1.RtpCodecCapability{{Kind: "audio", MimeType: "audio/opus", ClockRate: 48000}}}
}

func (w *fakeWorker) CloseRouter(_ context.Context, r *workerv1.CloseRouterRequest) (*workerv1.CloseRouterResponse, error) {
	if !w.routers[r.GetRouterId()] {
		return nil, missing("router", r.GetRouterId())
	}
	w.dropRouter(r.GetRouterId())
	return &workerv1.CloseRouterResponse{}, nil
}

func (w *fakeWorker) dropRouter(id string) {
	delete(w.routers, id)
	delete(w.requests, id)
	delete(w.appData, id)
	for transport, router := range w.transports {
		if router == id {
			w.dropTransport(transport)
		}
	}
}

func (w *fakeWorker) SetTransportAppData(_ context.Context, r *workerv1.SetTransportAppDataRequest) (*workerv1.SetTransportAppDataResponse, error) {
	if w.transports[r.GetTransportId()] == "" {
		return nil, missing("transport", r.GetTransportId())
	}
	w.appData[r.GetTransportId()] = r.GetAppData()
	return &workerv1.SetTransportAppDataResponse{}, nil
}

func (w *fakeWorker) CreateTransport(_ context.Context, r *workerv1.CreateTransportRequest) (*workerv1.CreateTransportResponse, error) {
	if !w.routers[r.GetRouterId()] {
		return nil, missing("router", r.GetRouterId())
	}
	known, err := w.again(r.GetTransportId(), r)
	if err != nil {
		return nil, err
	}
	w.transports[r.GetTransportId()], w.requests[r.GetTransportId()] = r.GetRouterId(), r
	if !known {
		w.appData[r.GetTransportId()] = r.GetAppData()
	}
	w.families = append(w.families, r.GetFamily())
	resp := &workerv1.CreateTransportResponse{
		IceParameters:  &workerv1.IceParameters{UsernameFragment: "frag", Password: "word", IceLite: true},
		DtlsParameters: &workerv1.DtlsParameters{Role: new("auto")},
	}
	for _, a := range r.GetAnnounced() {
		resp.IceCandidates = append(resp.IceCandidates, &workerv1.IceCandidate{Ip: a.GetAddress(), Address: a.GetAddress(), Port: a.GetPort(), Protocol: "udp"})
	}
	return resp, nil
}

func (w *fakeWorker) ConnectTransport(_ context.Context, r *workerv1.ConnectTransportRequest) (*workerv1.ConnectTransportResponse, error) {
	switch {
	case w.transports[r.GetTransportId()] == "":
		return nil, missing("transport", r.GetTransportId())
	case len(r.GetDtlsParameters().GetFingerprints()) == 0:
		return nil, fmt.Errorf("0 dtls fingerprints: %w", errs.ErrInvalid)
	}
	w.roles[r.GetTransportId()] = "server"
	return &workerv1.ConnectTransportResponse{DtlsLocalRole: "server"}, nil
}

func (w *fakeWorker) dropTransport(id string) {
	delete(w.transports, id)
	delete(w.requests, id)
	delete(w.appData, id)
	delete(w.roles, id)
	for producer, transport := range w.producers {
		if transport == id {
			w.dropProducer(producer)
		}
	}
	for consumer, on := range w.consumers {
		if on[0] == id {
			w.dropConsumer(consumer)
		}
	}
}

func (w *fakeWorker) dropProducer(id string) {
	delete(w.producers, id)
	delete(w.requests, id)
	delete(w.paused, id)
	for consumer, on := range w.consumers {
		if on[1] == id {
			w.dropConsumer(consumer)
		}
	}
}

func (w *fakeWorker) dropConsumer(id string) {
	delete(w.consumers, id)
	delete(w.requests, id)
	delete(w.paused, id)
}

func (w *fakeWorker) CloseTransport(_ context.Context, r *workerv1.CloseTransportRequest) (*workerv1.CloseTransportResponse, error) {
	if w.transports[r.GetTransportId()] == "" {
		return nil, missing("transport", r.GetTransportId())
	}
	w.dropTransport(r.GetTransportId())
	return &workerv1.CloseTransportResponse{}, nil
}

func (w *fakeWorker) Produce(_ context.Context, r *workerv1.ProduceRequest) (*workerv1.ProduceResponse, error) {
	switch {
	case w.transports[r.GetTransportId()] == "":
		return nil, missing("transport", r.GetTransportId())
	case r.GetKind() != "audio":
		return nil, fmt.Errorf("kind %q: %w", r.GetKind(), errs.ErrUnsupported)
	}
	if known, err := w.again(r.GetProducerId(), r); known || err != nil {
		return &workerv1.ProduceResponse{ConsumableRtpParameters: r.GetRtpParameters()}, err
	}
	w.producers[r.GetProducerId()], w.requests[r.GetProducerId()] = r.GetTransportId(), r
	return &workerv1.ProduceResponse{ConsumableRtpParameters: r.GetRtpParameters()}, nil
}

func (w *fakeWorker) producer(id string) error {
	if w.producers[id] == "" {
		return missing("producer", id)
	}
	return nil
}

func (w *fakeWorker) PauseProducer(_ context.Context, r *workerv1.PauseProducerRequest) (*workerv1.PauseProducerResponse, error) {
	return &workerv1.PauseProducerResponse{}, w.setPaused(r.GetProducerId(), true, w.producer(r.GetProducerId()))
}

func (w *fakeWorker) ResumeProducer(_ context.Context, r *workerv1.ResumeProducerRequest) (*workerv1.ResumeProducerResponse, error) {
	return &workerv1.ResumeProducerResponse{}, w.setPaused(r.GetProducerId(), false, w.producer(r.GetProducerId()))
}

func (w *fakeWorker) CloseProducer(_ context.Context, r *workerv1.CloseProducerRequest) (*workerv1.CloseProducerResponse, error) {
	if err := w.producer(r.GetProducerId()); err != nil {
		return nil, err
	}
	w.dropProducer(r.GetProducerId())
	return &workerv1.CloseProducerResponse{}, nil
}

func (w *fakeWorker) Consume(_ context.Context, r *workerv1.ConsumeRequest) (*workerv1.ConsumeResponse, error) {
	switch {
	case w.transports[r.GetTransportId()] == "":
		return nil, missing("transport", r.GetTransportId())
	case w.producers[r.GetProducerId()] == "":
		return nil, missing("producer", r.GetProducerId())
	case len(r.GetRtpCapabilities().GetCodecs()) == 0:
		return nil, fmt.Errorf("no common codec: %w", errs.ErrUnsupported)
	}
	answer := &workerv1.ConsumeResponse{Kind: "audio", RtpParameters: &workerv1.RtpParameters{Mid: new("0")}}
	if known, err := w.again(r.GetConsumerId(), r); known || err != nil {
		return answer, err
	}
	on := [2]string{r.GetTransportId(), r.GetProducerId()}
	for _, other := range w.consumers {
		if other == on {
			return nil, fmt.Errorf("producer %s: %w", r.GetProducerId(), errs.ErrExists)
		}
	}
	w.consumers[r.GetConsumerId()], w.requests[r.GetConsumerId()] = on, r
	return answer, nil
}

func (w *fakeWorker) consumer(id string) error {
	if w.consumers[id][0] == "" {
		return missing("consumer", id)
	}
	return nil
}

func (w *fakeWorker) PauseConsumer(_ context.Context, r *workerv1.PauseConsumerRequest) (*workerv1.PauseConsumerResponse, error) {
	return &workerv1.PauseConsumerResponse{}, w.setPaused(r.GetConsumerId(), true, w.consumer(r.GetConsumerId()))
}

func (w *fakeWorker) ResumeConsumer(_ context.Context, r *workerv1.ResumeConsumerRequest) (*workerv1.ResumeConsumerResponse, error) {
	return &workerv1.ResumeConsumerResponse{}, w.setPaused(r.GetConsumerId(), false, w.consumer(r.GetConsumerId()))
}

func (w *fakeWorker) CloseConsumer(_ context.Context, r *workerv1.CloseConsumerRequest) (*workerv1.CloseConsumerResponse, error) {
	if err := w.consumer(r.GetConsumerId()); err != nil {
		return nil, err
	}
	w.dropConsumer(r.GetConsumerId())
	return &workerv1.CloseConsumerResponse{}, nil
}

func (w *fakeWorker) setPaused(id string, paused bool, fault error) error {
	if fault == nil {
		w.paused[id] = paused
	}
	return fault
}

func (w *fakeWorker) Dump(_ context.Context, r *workerv1.DumpRequest) (*workerv1.DumpResponse, error) {
	dump := &workerv1.WorkerDump{Epoch: uint64(w.epoch), RtpCapabilities: &workerv1.RtpCapabilities{}}
	for id := range w.routers {
		if r.GetRouterId() == "" || id == r.GetRouterId() {
			dump.Routers = append(dump.Routers, w.dumpRouter(id))
		}
	}
	return &workerv1.DumpResponse{Worker: dump}, nil
}

func (w *fakeWorker) dumpRouter(router string) *workerv1.RouterDump {
	d := &workerv1.RouterDump{Id: router, AppData: w.appData[router]}
	for id, on := range w.transports {
		if on != router {
			continue
		}
		t := &workerv1.TransportDump{
			Id: id, IceState: workerv1.IceState_ICE_STATE_CONNECTED, DtlsState: workerv1.DtlsState_DTLS_STATE_NEW,
			IceSelectedTuple: &workerv1.IceTuple{Protocol: "udp", RemoteAddress: "192.0.2.1", RemotePort: 4000},
			DtlsLocalRole:    cmp.Or(w.roles[id], "auto"), AppData: w.appData[id],
		}
		for producer, transport := range w.producers {
			if transport == id {
				t.Producers = append(t.Producers, &workerv1.ProducerDump{Id: producer, Kind: "audio", Paused: w.paused[producer]})
			}
		}
		for consumer, on := range w.consumers {
			if on[0] == id {
				t.Consumers = append(t.Consumers, &workerv1.ConsumerDump{Id: consumer, ProducerId: on[1], Kind: "audio", Paused: w.paused[consumer]})
			}
		}
		d.Transports = append(d.Transports, t)
	}
	return d
}

func (w *fakeWorker) GetStats(context.Context, *workerv1.GetStatsRequest) (*workerv1.GetStatsResponse, error) {
	resp := &workerv1.GetStatsResponse{}
	for id := range w.producers {
		resp.Producers = append(resp.Producers, &workerv1.ProducerStats{ProducerId: id, Packets: 50, JitterMs: 1.5, AudioLevelDbov: new(int32(-20))})
	}
	for id := range w.consumers {
		resp.Consumers = append(resp.Consumers, &workerv1.ConsumerStats{ConsumerId: id, Packets: 49, PacketsLost: 1, RoundTripTimeMs: new(7.0), Paused: true})
	}
	return resp, nil
}

// held counts routers, transports, producers and consumers.
func (w *fakeWorker) held() [4]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return [4]int{len(w.routers), len(w.transports), len(w.producers), len(w.consumers)}
}

// called says how often a method ran.
func (w *fakeWorker) called(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, c := range w.calls {
		if c == name {
			n++
		}
	}
	return n
}

// producerOn is the producer's transport, consumerOn the consumer's with its producer.
func (w *fakeWorker) producerOn(id string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.producers[id]
}

func (w *fakeWorker) consumerOn(id string) [2]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.consumers[id]
}

func (w *fakeWorker) lastFamily() workerv1.AddressFamily {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.families[len(w.families)-1]
}

// serve offers the worker over memory and returns a connection to it.
func (w *fakeWorker) serve(t *testing.T) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(grpc.UnaryInterceptor(w.intercept))
	workerv1.RegisterWorkerServiceServer(server, w)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///worker",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUnaryInterceptor(status.UnaryClient))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return conn
}
