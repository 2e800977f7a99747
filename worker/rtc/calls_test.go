package rtc

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/worker/handshake"
	"github.com/dspeak/sfu/worker/netio"
	"github.com/dspeak/sfu/worker/ortc"
)

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func TestCallErrors(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Limits = Limits{Routers: 2, Transports: 3, ProducersPerTransport: 2, ConsumersPerTransport: 1}
	})
	ctx := r.ctx
	router, other := r.router(), r.router()
	_, err := r.CreateRouter(ctx, router, []byte("other"))
	wantErr(t, err, errs.ErrExists)
	_, err = r.CreateRouter(ctx, "third", nil)
	wantErr(t, err, errs.ErrExhausted)
	_, err = r.CreateRouter(ctx, "", nil)
	wantErr(t, err, errs.ErrInvalid)
	_, err = r.CreateRouter(ctx, ident.RouterID(strings.Repeat("x", 1000)), nil)
	wantErr(t, err, errs.ErrInvalid)

	a, b, far := r.newClient(router), r.newClient(router), r.newClient(other)
	_, err = r.CreateTransport(ctx, CreateTransportParams{Router: "nope", ID: "x"})
	wantErr(t, err, errs.ErrNotFound)
	_, err = r.CreateTransport(ctx, CreateTransportParams{Router: router, ID: a.transport, Family: FamilyIPv4})
	wantErr(t, err, errs.ErrExists)
	_, err = r.CreateTransport(ctx, CreateTransportParams{Router: router, ID: "fourth"})
	wantErr(t, err, errs.ErrExhausted)

	good := []DtlsFingerprint{{Algorithm: "sha-256", Value: strings.Repeat("AB:", 31) + "AB"}}
	for _, bad := range []DtlsParameters{
		{Role: "boss", Fingerprints: good},
		{Role: "auto"},
		{Fingerprints: make([]DtlsFingerprint, 100)},
		{Fingerprints: []DtlsFingerprint{{Algorithm: "sha-256", Value: ""}}},
	} {
		_, err = r.ConnectTransport(ctx, a.transport, bad)
		wantErr(t, err, errs.ErrInvalid)
	}
	_, err = r.ConnectTransport(ctx, a.transport, DtlsParameters{Fingerprints: []DtlsFingerprint{{Algorithm: "sha-1", Value: "AB"}}})
	wantErr(t, err, errs.ErrInvalid)
	_, err = r.ConnectTransport(ctx, "nope", DtlsParameters{Fingerprints: good})
	wantErr(t, err, errs.ErrNotFound)
	role, err := r.ConnectTransport(ctx, a.transport, DtlsParameters{Role: "auto", Fingerprints: good})
	if err != nil || role != "server" {
		t.Fatalf("role %q, %v", role, err)
	}
	unread := DtlsFingerprint{Algorithm: "sha-512", Value: "unreadable"}
	for _, same := range []DtlsParameters{
		{Role: "client", Fingerprints: good},
		{Fingerprints: []DtlsFingerprint{unread, {Algorithm: "SHA256", Value: strings.Repeat("ab", 32)}}},
		{Role: "auto", Fingerprints: append(good[:1:1], DtlsFingerprint{Algorithm: "sha-256", Value: strings.Repeat("aB ", 32)})},
	} {
		if role, err := r.ConnectTransport(ctx, a.transport, same); err != nil || role != "server" {
			t.Errorf("again as %v: role %q, %v", same, role, err)
		}
	}
	another := []DtlsFingerprint{{Algorithm: "sha-256", Value: strings.Repeat("AC", 32)}}
	_, err = r.ConnectTransport(ctx, a.transport, DtlsParameters{Role: "auto", Fingerprints: another})
	wantErr(t, err, errs.ErrExists)
	_, err = r.ConnectTransport(ctx, a.transport, DtlsParameters{Role: "server", Fingerprints: good})
	wantErr(t, err, errs.ErrExists)

	p := r.produce(a, 5, "0")
	produce := func(id ident.ProducerID, ssrc uint32, mid string) error {
		_, err := r.Produce(ctx, ProduceParams{Transport: a.transport, ID: id, Kind: "audio", RtpParameters: producerParams(ssrc, mid)})
		return err
	}
	wantErr(t, produce(p, 6, "1"), errs.ErrExists)
	wantErr(t, produce("same-ssrc", 5, "1"), errs.ErrExists)
	wantErr(t, produce("same-mid", 6, "0"), errs.ErrExists)
	wantErr(t, produce("", 6, "1"), errs.ErrInvalid)
	_, err = r.Produce(ctx, ProduceParams{Transport: a.transport, ID: "video", Kind: "video", RtpParameters: producerParams(6, "1")})
	wantErr(t, err, errs.ErrUnsupported)
	_, err = r.Produce(ctx, ProduceParams{Transport: a.transport, ID: "empty", Kind: "audio"})
	wantErr(t, err, errs.ErrInvalid)
	mustNil(t, produce("second", 6, "1"))
	wantErr(t, produce("third", 7, "2"), errs.ErrExhausted)

	caps := ortc.RouterRtpCapabilities()
	consume := func(tr ident.TransportID, id ident.ConsumerID, p ident.ProducerID, caps ortc.RtpCapabilities) error {
		_, err := r.Consume(ctx, ConsumeParams{Transport: tr, ID: id, Producer: p, RtpCapabilities: caps})
		return err
	}
	wantErr(t, consume(far.transport, "c", p, caps), errs.ErrNotFound) // a producer of another router
	wantErr(t, consume("nope", "c", p, caps), errs.ErrNotFound)
	wantErr(t, consume(b.transport, "c", p, ortc.RtpCapabilities{}), errs.ErrUnsupported)
	mustNil(t, consume(b.transport, "c", p, caps))
	wantErr(t, consume(a.transport, "c", p, caps), errs.ErrExists)
	wantErr(t, consume(b.transport, "again", p, caps), errs.ErrExists)
	wantErr(t, consume(b.transport, "more", "second", caps), errs.ErrExhausted)

	for _, err := range []error{
		r.CloseRouter(ctx, "nope"), r.CloseTransport(ctx, "nope"), r.CloseProducer(ctx, "nope"), r.CloseConsumer(ctx, "nope"),
		r.PauseProducer(ctx, "nope"), r.ResumeProducer(ctx, "nope"), r.PauseConsumer(ctx, "nope"), r.ResumeConsumer(ctx, "nope"),
	} {
		wantErr(t, err, errs.ErrNotFound)
	}
	_, err = r.Dump(ctx, "nope")
	wantErr(t, err, errs.ErrNotFound)
	for _, target := range []StatsTarget{{Router: "nope"}, {Transport: "nope"}, {Producer: "nope"}, {Consumer: "nope"}} {
		_, err = r.Stats(ctx, target)
		wantErr(t, err, errs.ErrNotFound)
	}
	_, err = r.Stats(ctx, StatsTarget{Router: router, Producer: p})
	wantErr(t, err, errs.ErrInvalid)
	s, err := r.Stats(ctx, StatsTarget{})
	if err != nil || len(s.Transports) != 3 || len(s.Producers) != 2 || len(s.Consumers) != 1 {
		t.Fatalf("stats %+v, %v", s, err)
	}
}

// TestMidsAreNeverReused: a repeated mid breaks the client's session.
func TestMidsAreNeverReused(t *testing.T) {
	r := newRig(t, nil)
	router := r.router()
	a, b := r.newClient(router), r.newClient(router)
	p := r.produce(a, 5, "0")
	mids, ssrcs := map[string]bool{}, map[uint32]bool{}
	for range 50 {
		id, params := r.consume(b, p)
		if mids[params.Mid] || ssrcs[params.Encodings[0].SSRC] {
			t.Fatalf("mid %s or ssrc used again", params.Mid)
		}
		mids[params.Mid], ssrcs[params.Encodings[0].SSRC] = true, true
		mustNil(t, r.CloseConsumer(r.ctx, id))
	}
}

func TestClosingCascades(t *testing.T) {
	type world struct {
		r                *rig
		router           ident.RouterID
		a, b, c          *client
		ab, cb           ident.ConsumerID
		producer, second ident.ProducerID
	}
	build := func(t *testing.T) *world {
		t.Helper()
		r := newRig(t, nil)
		w := &world{r: r, router: r.router()}
		w.a, w.b, w.c = r.newClient(w.router), r.newClient(w.router), r.newClient(w.router)
		for _, c := range []*client{w.a, w.b, w.c} {
			c.connect(dialUDP(t, c.addr("udp", true)), "client")
		}
		w.producer, w.second = r.produce(w.a, 5, "0"), r.produce(w.b, 6, "0")
		w.ab, _ = r.consume(w.b, w.producer)
		w.cb, _ = r.consume(w.c, w.producer)
		r.consume(w.c, w.second)
		w.a.speak(5, 1)
		w.b.hear()
		w.c.hear()
		return w
	}
	for _, tc := range []struct {
		name                                      string
		close                                     func(w *world) error
		routers, transports, producers, consumers int
	}{
		{"consumer", func(w *world) error { return w.r.CloseConsumer(w.r.ctx, w.ab) }, 1, 3, 2, 2},
		{"producer", func(w *world) error { return w.r.CloseProducer(w.r.ctx, w.producer) }, 1, 3, 1, 1},
		{"transport of a producer", func(w *world) error { return w.r.CloseTransport(w.r.ctx, w.a.transport) }, 1, 2, 1, 1},
		{"transport of consumers", func(w *world) error { return w.r.CloseTransport(w.r.ctx, w.c.transport) }, 1, 2, 2, 1},
		{"router", func(w *world) error { return w.r.CloseRouter(w.r.ctx, w.router) }, 0, 0, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := build(t)
			mustNil(t, tc.close(w))
			u, err := w.r.Usage(w.r.ctx)
			mustNil(t, err)
			if u.Routers != tc.routers || u.Transports != tc.transports || u.Producers != tc.producers || u.Consumers != tc.consumers {
				t.Fatalf("left: %+v", u)
			}
			w.r.onLoop(func() {
				if n := len(w.r.table.ufrags); n != tc.transports {
					t.Errorf("%d user fragments left", n)
				}
				if n := len(w.r.table.tuples); n != tc.transports {
					t.Errorf("%d addresses left", n)
				}
				if n := len(w.r.table.list); n != tc.transports {
					t.Errorf("%d transports in the sweep", n)
				}
			})
			if tc.transports == 3 { // whoever is left still hears
				w.b.speak(6, 9)
				w.c.hear()
			}
		})
	}
}

func TestDtlsFailureAndClosure(t *testing.T) {
	t.Run("another certificate than announced", func(t *testing.T) {
		r := newRig(t, nil)
		c := r.newClient(r.router())
		l := c.addLink(dialUDP(t, c.addr("udp", true)))
		c.check(l, useCandidate)
		wrong := []DtlsFingerprint{{Algorithm: "sha-256", Value: strings.Repeat("AB:", 31) + "AB"}}
		_, err := r.ConnectTransport(r.ctx, c.transport, DtlsParameters{Role: "client", Fingerprints: wrong})
		mustNil(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = c.dial("client")
		}()
		e := r.waitEvent("closed", func(e Event) bool { return e.Kind == EventTransportClosed })
		if e.Transport != c.transport || e.Reason != ReasonDtlsFailed || e.DtlsState != DtlsFailed {
			t.Fatalf("event %+v", e)
		}
		<-done
	})
	for _, role := range []string{"client", "server"} {
		t.Run("close_notify of a dtls "+role, func(t *testing.T) {
			r := newRig(t, nil)
			c := r.newClient(r.router())
			c.connect(dialUDP(t, c.addr("udp", true)), role)
			// A forged one is ignored.
			c.send([]byte{21, 254, 253, 0, 1, 0, 0, 0, 0, 0, 9, 0, 26, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26})
			c.send([]byte{21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 0})
			c.check(c.active)
			if c.dump().DtlsState != DtlsConnected {
				t.Fatal("a forged alert closed the transport")
			}
			r.clock.advance(time.Second)
			c.check(c.active) // a turn with the new time
			mustNil(t, c.conn.Close())
			e := r.waitEvent("closed", func(e Event) bool { return e.Kind == EventTransportClosed })
			if e.Reason != ReasonDtlsClosed {
				t.Fatalf("event %+v", e)
			}
		})
	}
}

func TestCallsEndWithTheirContextAndTheLoop(t *testing.T) {
	l, err := New(Config{
		Certificate: testCertificate(), Log: discardLog(),
	}, Sockets{UDP: []netio.UDP{listenUDP(t, "udp4", "127.0.0.1")}})
	mustNil(t, err)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	// Nobody runs the loop yet: the call gives up and must never be made.
	_, err = l.CreateRouter(gone, "late", nil)
	wantErr(t, err, context.Canceled)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	d, err := l.Dump(t.Context(), "")
	if err != nil || len(d.Routers) != 0 {
		t.Fatalf("dump %+v, %v", d, err)
	}
	if age := time.Since(l.LastTurn()); age > patience {
		t.Fatalf("last turn %s ago", age)
	}
	stop()
	mustNil(t, <-done)
	_, err = l.CreateRouter(t.Context(), "after", nil)
	wantErr(t, err, errs.ErrClosed)
	if _, open := <-l.Events(); open {
		t.Fatal("events are not closed")
	}
}

func TestConfigFaultsAreReportedTogether(t *testing.T) {
	_, err := New(Config{BatchLimit: 1000, SendRingBytes: 5, ConsentTimeout: -1}, Sockets{})
	wantErr(t, err, errs.ErrInvalid)
	for _, part := range []string{"certificate", "log", "batch limit", "send ring", "timeout", "socket"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name the %s", err, part)
		}
	}
}

func TestEventsNeverBlockTheLoop(t *testing.T) {
	b := newBench(t)
	tr := b.connected(handshake.AEADAES128GCM)
	for range 2 * eventQueue {
		b.emitState(tr.transport)
	}
	if u := b.usage(); u.EventsLost == 0 {
		t.Fatal("lost events are not counted")
	}
}
