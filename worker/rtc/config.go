package rtc

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/netio"
)

// Config is what a Loop needs to know. Zero fields marked with a default take it
// in New.
type Config struct {
	// Slot, Generation, Epoch and PID only appear in dumps.
	Slot       ident.Slot
	Generation ident.Generation
	Epoch      ident.Epoch
	PID        int
	// Ledger is where all state is kept that a successor needs; what it holds already
	// is gone on with. Default: memory of the loop's own, which begins with nothing.
	Ledger *ledger.Ledger
	// SkipRouters are the marks of routers that are not gone on with: what the ledger
	// holds of them is wiped.
	SkipRouters []uint64
	// Announced are the literal addresses and ports under which clients reach the
	// media sockets, highest preference first. A call to CreateTransport may name
	// others. Each serves UDP and TCP as far as the sockets of its family are there.
	Announced []netip.AddrPort
	// Certificate is the DTLS certificate of all transports. Required.
	Certificate tls.Certificate
	// ConsentTimeout closes a transport that had no valid check for so long
	// (RFC 7675). Default 30 s.
	ConsentTimeout time.Duration
	// UnconnectedTimeout closes a transport that had no valid check so long after
	// ConnectTransport. Default 60 s.
	UnconnectedTimeout time.Duration
	// HandshakeTimeout bounds one DTLS handshake. Default 15 s.
	HandshakeTimeout time.Duration
	// HandshakeConcurrency bounds the handshakes that run at once. Default: that of
	// package handshake.
	HandshakeConcurrency int
	// BatchLimit is the number of datagrams read at once, 1 to 32. Default 32: what
	// a killed process had read is lost.
	BatchLimit int
	// MaxWait is the longest time that packets wait for others to the same
	// destination under full load; 0 takes the default of 6 ms, negative never waits.
	MaxWait time.Duration
	// Padding says when payloads are padded, so that more packets share a send.
	// Default PaddingAuto.
	Padding Padding
	// SendRingBytes is the size of the log of sent packets, from which retransmissions
	// are served; rounded up to a power of two. Default 8 MiB.
	SendRingBytes int
	// Limits bound what one worker holds.
	Limits Limits
	// Log receives lifecycle and once-a-second drop lines. Required.
	Log *slog.Logger
}

// Padding is when forwarded payloads are padded.
type Padding string

const (
	// PaddingAuto pads while the loop is busy enough for it to pay.
	PaddingAuto Padding = "auto"
	// PaddingAlways pads whatever the load.
	PaddingAlways Padding = "always"
	// PaddingOff never pads.
	PaddingOff Padding = "off"
)

// Limits bound the number of objects and of TCP connections. Zero takes the default.
type Limits struct {
	Routers               int // default 4096
	Transports            int // default 16384, of the worker
	ProducersPerTransport int // default 16
	ConsumersPerTransport int // default 1024
	Consumers             int // default 1048576, of the worker
	TCPConnections        int // default 4096, of the worker
}

// Sockets are the media sockets of a worker, at least one. The loop closes them when Run
// ends.
type Sockets struct {
	UDP []netio.UDP
	// Asides receive what need not wake a silent loop (netio.OpenAside). With one for each
	// of UDP, in the same order, the loop rests in silence.
	Asides []netio.UDP
	TCP    []*netio.TCPListener
	// Counters is where the sockets count, for Usage; nil: Usage tells nothing of them.
	Counters *SocketCounters
}

const (
	defaultConsentTimeout     = 30 * time.Second
	defaultUnconnectedTimeout = 60 * time.Second
	defaultHandshakeTimeout   = 15 * time.Second
	defaultBatchLimit         = 32
	maxBatchLimit             = netio.MaxReceive
	defaultMaxWait            = 6 * time.Millisecond
	maxMaxWait                = 20 * time.Millisecond
	defaultSendRingBytes      = 8 << 20
	minSendRingBytes          = 1 << 18
	maxSendRingBytes          = 1 << 30
)

// withDefaults fills the zero fields in.
func (c Config) withDefaults() Config {
	c.ConsentTimeout = orDefault(c.ConsentTimeout, defaultConsentTimeout)
	c.UnconnectedTimeout = orDefault(c.UnconnectedTimeout, defaultUnconnectedTimeout)
	c.HandshakeTimeout = orDefault(c.HandshakeTimeout, defaultHandshakeTimeout)
	c.BatchLimit = orDefault(c.BatchLimit, defaultBatchLimit)
	c.MaxWait = orDefault(c.MaxWait, defaultMaxWait)
	c.Padding = orDefault(c.Padding, PaddingAuto)
	c.SendRingBytes = orDefault(c.SendRingBytes, defaultSendRingBytes)
	c.Limits.Routers = orDefault(c.Limits.Routers, 4096)
	c.Limits.Transports = orDefault(c.Limits.Transports, 16384)
	c.Limits.ProducersPerTransport = orDefault(c.Limits.ProducersPerTransport, 16)
	c.Limits.ConsumersPerTransport = orDefault(c.Limits.ConsumersPerTransport, 1024)
	c.Limits.Consumers = orDefault(c.Limits.Consumers, 1<<20)
	c.Limits.TCPConnections = orDefault(c.Limits.TCPConnections, 4096)
	return c
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// validate reports all faults of the configuration together.
func (c Config) validate(s Sockets) error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf(format+": %w", append(args, errs.ErrInvalid)...))
	}
	if len(c.Certificate.Certificate) == 0 {
		fault("certificate missing")
	}
	if c.Log == nil {
		fault("log missing")
	}
	if c.BatchLimit < 1 || c.BatchLimit > maxBatchLimit {
		fault("batch limit %d, want 1 to %d", c.BatchLimit, maxBatchLimit)
	}
	if c.MaxWait > maxMaxWait {
		fault("max wait %s, want at most %s", c.MaxWait, maxMaxWait)
	}
	if !slices.Contains([]Padding{PaddingAuto, PaddingAlways, PaddingOff}, c.Padding) {
		fault("padding %q", c.Padding)
	}
	if c.SendRingBytes < minSendRingBytes || c.SendRingBytes > maxSendRingBytes {
		fault("send ring of %d bytes, want %d to %d", c.SendRingBytes, minSendRingBytes, maxSendRingBytes)
	}
	faults = append(faults, s.validate())
	if c.ConsentTimeout < 0 || c.UnconnectedTimeout < 0 || c.HandshakeTimeout < 0 {
		fault("negative timeout")
	}
	for _, a := range c.Announced {
		if !a.IsValid() || a.Port() == 0 {
			fault("announced address %q", a.String())
		}
	}
	return errors.Join(faults...)
}

func (s Sockets) validate() error {
	if len(s.UDP)+len(s.TCP) == 0 {
		return fmt.Errorf("no media socket: %w", errs.ErrInvalid)
	}
	return nil
}
