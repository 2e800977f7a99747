package rtc

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/worker/handshake"
	"github.com/dspeak/sfu/worker/netio"
	"github.com/dspeak/sfu/worker/ortc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// testCertificate is made once: a key costs time.
var testCertificate = sync.OnceValue(func() tls.Certificate {
	cert, _, err := handshake.NewCertificate()
	if err != nil {
		panic(err)
	}
	return cert
})

// testClock is a clock that tests can push forward.
type testClock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// rig is a running loop on loopback sockets.
type rig struct {
	*Loop
	t     *testing.T
	ctx   context.Context
	clock *testClock
}

// newRig starts a loop with UDP and TCP on 127.0.0.1 and ::1 and stops it with the
// test.
func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	return newRigOn(t, openSockets(t, netio.UDPOptions{}), change)
}

// openSockets opens UDP and TCP on 127.0.0.1 and ::1, which count; opts are those of the first.
func openSockets(t *testing.T, opts netio.UDPOptions) Sockets {
	t.Helper()
	s := Sockets{Counters: &SocketCounters{}}
	opts.Counters = &netio.Counters{}
	s.Counters.UDP = append(s.Counters.UDP, opts.Counters)
	s.UDP = []netio.UDP{listenUDPWith(t, "udp4", "127.0.0.1", opts), listenUDP(t, "udp6", "::1")}
	s.TCP = []*netio.TCPListener{listenTCP(t, "tcp4", "127.0.0.1"), listenTCP(t, "tcp6", "::1")}
	for _, main := range s.UDP {
		aside, err := netio.OpenAside(main, netio.UDPOptions{})
		if err != nil && runtime.GOOS == "linux" {
			t.Fatal(err)
		}
		if err == nil {
			s.Asides = append(s.Asides, aside)
		}
	}
	return s
}

// newRigOn is newRig on the given sockets.
func newRigOn(t *testing.T, s Sockets, change func(*Config)) *rig {
	t.Helper()
	cfg := Config{
		Announced:   []netip.AddrPort{s.UDP[0].LocalAddr(), s.UDP[1].LocalAddr()},
		Certificate: testCertificate(),
		Log:         discardLog(),
	}
	if change != nil {
		change(&cfg)
	}
	l, err := New(cfg, s)
	if err != nil {
		t.Fatal(err)
	}
	clock := &testClock{}
	l.clock = clock.now
	l.standstill.from = 0 // tests push the clock forward while the loop turns
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	runCtx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(runCtx) }()
	t.Cleanup(func() {
		cancel()
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return &rig{Loop: l, t: t, ctx: ctx, clock: clock}
}

func discardLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

func listenUDP(tb testing.TB, network, host string) netio.UDP {
	tb.Helper()
	return listenUDPWith(tb, network, host, netio.UDPOptions{})
}

func listenUDPWith(tb testing.TB, network, host string, opts netio.UDPOptions) netio.UDP {
	tb.Helper()
	conn, err := net.ListenUDP(network, &net.UDPAddr{IP: net.ParseIP(host)})
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	file, err := conn.File()
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	sock, err := netio.NewUDP(int(file.Fd()), opts)
	if err != nil {
		tb.Fatal(err)
	}
	return sock
}

func listenTCP(t *testing.T, network, host string) *netio.TCPListener {
	t.Helper()
	listener, err := net.ListenTCP(network, &net.TCPAddr{IP: net.ParseIP(host)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	file, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	l, err := netio.NewTCPListener(int(file.Fd()), netio.TCPOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// router makes a router and returns its id.
func (r *rig) router() ident.RouterID {
	r.t.Helper()
	id := ident.RouterID(ident.New())
	if _, err := r.CreateRouter(r.ctx, id, nil); err != nil {
		r.t.Fatal(err)
	}
	return id
}

// transport makes a transport and returns its id and what a client needs.
func (r *rig) transport(router ident.RouterID) (ident.TransportID, TransportInfo) {
	r.t.Helper()
	id := ident.TransportID(ident.New())
	info, err := r.CreateTransport(r.ctx, CreateTransportParams{Router: router, ID: id})
	if err != nil {
		r.t.Fatal(err)
	}
	return id, info
}

// produce makes a producer on a client's transport.
func (r *rig) produce(c *client, ssrc uint32, mid string) ident.ProducerID {
	r.t.Helper()
	id := ident.ProducerID(ident.New())
	if _, err := r.Produce(r.ctx, ProduceParams{
		Transport: c.transport, ID: id, Kind: "audio", RtpParameters: producerParams(ssrc, mid),
	}); err != nil {
		r.t.Fatal(err)
	}
	return id
}

// consume makes a consumer on a client's transport.
func (r *rig) consume(c *client, producer ident.ProducerID) (ident.ConsumerID, ortc.RtpParameters) {
	r.t.Helper()
	id := ident.ConsumerID(ident.New())
	res, err := r.Consume(r.ctx, ConsumeParams{
		Transport: c.transport, ID: id, Producer: producer, RtpCapabilities: ortc.RouterRtpCapabilities(),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return id, res.RtpParameters
}

// Header extension ids of the test's producers. The router's are 1, 4, 5 and 10.
const (
	extMid   = 3
	extTWCC  = 7
	extLevel = 9
)

func producerParams(ssrc uint32, mid string) ortc.RtpParameters {
	return ortc.RtpParameters{
		Mid: mid,
		Codecs: []ortc.RtpCodecParameters{{
			MimeType: "audio/opus", PayloadType: 111, ClockRate: 48000, Channels: 2,
			Parameters:   ortc.Parameters{"useinbandfec": int64(1)},
			RtcpFeedback: []ortc.RtcpFeedback{{Type: "nack"}, {Type: "transport-cc"}},
		}},
		HeaderExtensions: []ortc.RtpHeaderExtensionParameters{
			{URI: ortc.URIMid, ID: extMid},
			{URI: ortc.URITransportWideCC, ID: extTWCC},
			{URI: ortc.URIAudioLevel, ID: extLevel},
		},
		Encodings: []ortc.RtpEncodingParameters{{SSRC: ssrc}},
		Rtcp:      ortc.RtcpParameters{CNAME: "speaker"},
	}
}

// eventually waits until ok holds, asking again after every millisecond.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			r.t.Fatalf("never happened: %s", what)
		}
	}
}

// waitEvent returns the next event that matches.
func (r *rig) waitEvent(what string, match func(Event) bool) Event {
	r.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		select {
		case e := <-r.Events():
			if match(e) {
				return e
			}
		case <-deadline.C:
			r.t.Fatalf("no event: %s", what)
		}
	}
}
