package load

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pion/rtp"
	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

// Clients lets another program have clients of its own, whose media connections
// are those of a load: real ICE, DTLS and SRTP, with all that arrives shown to it.
type Clients struct {
	engine *engine
}

// Watch is shown what arrives on one link, on the goroutine of Clients.Run; what
// it gets is valid during the call. Authentic says whether the packet's
// protection is right.
type Watch interface {
	// RTP gets a protected packet, with the kernel's arrival time in Unix nanoseconds.
	RTP(datagram []byte, authentic bool, at int64)
	// RTCP gets a protected packet with its SRTCP index.
	RTCP(datagram []byte, index uint32, authentic bool)
	// DTLS gets a datagram that comes after the handshake.
	DTLS(datagram []byte)
}

// ClientFaults is what went wrong in the clients' own sockets.
type ClientFaults struct {
	// KernelDrops are datagrams that the kernel dropped before a client read them.
	KernelDrops uint64 `json:"kernelDrops"`
	// Unsent are datagrams that a client's socket did not take.
	Unsent uint64 `json:"unsent"`
	// Malformed are datagrams that were no packets.
	Malformed uint64 `json:"malformed"`
}

// NewClients needs Run.
func NewClients() (*Clients, error) {
	e, err := newEngine(Config{PacketTime: 20 * time.Millisecond, Duration: time.Second})
	if err != nil {
		return nil, err
	}
	return &Clients{engine: e}, nil
}

// Run serves the links until the context ends, then closes those that are left.
func (c *Clients) Run(ctx context.Context) error { return c.engine.run(ctx) }

// Faults may be called once Run has ended.
func (c *Clients) Faults() ClientFaults {
	return ClientFaults{KernelDrops: c.engine.kernelDrops, Unsent: c.engine.writeErrors.Load(), Malformed: c.engine.malformed}
}

// Capabilities is the data of client-rtp-capabilities.
func (*Clients) Capabilities() map[string]any { return capabilities() }

// ProduceRequest is the data of a produce request.
func (*Clients) ProduceRequest(transport, mid, name string, ssrc uint32) map[string]any {
	return produceRequest(transport, mid, name, ssrc)
}

// ConnectRequest is the data of a connect-transport request.
func (c *Clients) ConnectRequest(transport string) map[string]any {
	return map[string]any{
		"transportId":    transport,
		"dtlsParameters": dtlsParameters{Role: "client", Fingerprints: c.engine.fingerprints},
	}
}

// Open begins to connect to what the data of transport-params names, over TCP if
// wanted.
func (c *Clients) Open(params json.RawMessage, tcp bool, watch Watch) (*Link, error) {
	var p transportParams
	if err := json.Unmarshal(params, &p); err != nil {
		return nil, fmt.Errorf("decode transport-params: %w", err)
	}
	protocol := "udp"
	if tcp {
		protocol = "tcp"
	}
	r, err := p.pick(protocol)
	if err != nil {
		return nil, err
	}
	t, err := openTransport(c.engine, r, watch)
	if err != nil {
		return nil, err
	}
	return &Link{transport: t}, nil
}

// Link is one client's connection of one WebRTC transport.
type Link struct {
	transport *transport
}

// ID is the transport's.
func (l *Link) ID() string { return l.transport.id }

// Done is closed when DTLS is connected or failed.
func (l *Link) Done() <-chan struct{} { return l.transport.done }

// Wait returns when DTLS is connected or failed.
func (l *Link) Wait(ctx context.Context) error { return l.transport.wait(ctx) }

// Hear lets receiver reports tell of a consumer. One goroutine calls it.
func (l *Link) Hear(ssrc uint32) error { return l.transport.hear(ssrc, &pair{}) }

// Redials is how often a TCP connection was lost and dialled again.
func (l *Link) Redials() uint64 {
	if l.transport.stream == nil {
		return 0
	}
	return l.transport.stream.dials.Load()
}

// Protect appends the protected packet to dst. One goroutine calls it, after Wait.
func (l *Link) Protect(dst, plain []byte, header *rtp.Header) ([]byte, error) {
	protected, err := l.transport.outgoing.EncryptRTP(dst, plain, header)
	if err != nil {
		return nil, fmt.Errorf("protect packet: %w", err)
	}
	return protected, nil
}

// Write sends a protected packet.
func (l *Link) Write(datagram []byte) { l.transport.write(datagram) }

// Report sends a sender report; the goroutine that calls Protect calls it.
func (l *Link) Report(name string, ssrc, timestamp, packets, octets uint32) error {
	s := speaker{name: name, ssrc: ssrc, packets: packets, octets: octets}
	return l.transport.sendRTCP(s.senderReport(time.Now().UnixNano(), timestamp)...)
}

// Close ends the link without a word to the server and returns when nothing
// arrives any more.
func (l *Link) Close(ctx context.Context) error {
	l.transport.leaving.Store(true)
	select {
	case <-l.transport.gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close transport %s: %w", l.transport.id, errs.ErrUnavailable)
	}
}

// Punctual gives the calling thread, which must be locked, the priority of one
// with little work that is to be on time, where that is allowed. The returned
// function takes it back.
func Punctual() (back func()) { return raise(unix.SCHED_FIFO) }

// SleepUntil blocks the calling thread: the Go runtime's timers are late by its
// own scheduling.
func SleepUntil(due time.Time) {
	var now unix.Timespec
	if d := time.Until(due); d > 0 && unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) == nil {
		sleep(now.Nano() + int64(d))
	}
}
