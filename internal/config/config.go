package config

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/dspeak/sfu/internal/origin"
)

// Config is all settings of a supervisor.
type Config struct {
	// Environment is Development or Production.
	Environment string
	// RunDir is an absolute path.
	RunDir string

	HTTP      HTTP
	Signaling Signaling
	Media     Media
	Interop   Interop
	Workers   Workers
	Log       Log
}

// The environments.
const (
	Development = "development"
	Production  = "production"
)

// HTTP is the public port.
type HTTP struct {
	// Host is the literal address to bind, empty for all.
	Host string
	Port int
	// Origins are the pages that may open a socket; the zero List allows all.
	Origins origin.List
	// TrustedProxies are the peers whose forwarding headers count.
	TrustedProxies []netip.Prefix
	// PublicURL is the signaling WebSocket's URL as clients know it, empty when each
	// request tells it.
	PublicURL string
}

// Signaling bounds the clients' sockets.
type Signaling struct {
	MessageBytes    int
	Rate            float64 // messages a second
	Burst           int
	PendingRequests int
	SendQueue       int

	WriteTimeout      time.Duration
	ValidationTimeout time.Duration
	HeartbeatInterval time.Duration
	HeartbeatTimeout  time.Duration
	Grace             time.Duration
	KickCooldown      time.Duration

	Connections           int
	ConnectionsPerAddress int

	AdmissionRate  float64 // sockets a second
	AdmissionBurst int
	AdmissionQueue int
	AdmissionWait  time.Duration
}

// The IP families of Media.PreferredFamily.
const (
	FamilyIPv4 = "ipv4"
	FamilyIPv6 = "ipv6"
)

// The values of Media.Segmentation.
const (
	// SegmentationAuto uses UDP_SEGMENT while the kernel takes it.
	SegmentationAuto = "auto"
	// SegmentationOff sends packets one by one.
	SegmentationOff = "off"
)

// The values of Media.Padding.
const (
	// PaddingAuto pads while the worker is busy enough for it to pay.
	PaddingAuto = "auto"
	// PaddingAlways pads whatever the load.
	PaddingAlways = "always"
	// PaddingOff never pads.
	PaddingOff = "off"
)

// Media is where media is received and what is announced.
type Media struct {
	// Port is bound by slot 0 for IPv4, Port+1 for IPv6; slot i adds i.
	Port int
	// Bind are the local addresses to bind, at most MaxBind and none twice; empty: all of
	// both families.
	Bind []netip.Addr
	// IPv4 and IPv6 are the announced addresses or host names, empty for none named. Only
	// addresses of that family are meant.
	IPv4, IPv6 string
	// IPv4Port and IPv6Port are the ports announced for slot 0, never 0; slot i adds i.
	IPv4Port, IPv6Port int
	// PreferredFamily is FamilyIPv4, FamilyIPv6 or empty.
	PreferredFamily string
	// ResolveInterval is the time between look-ups of announced host names.
	ResolveInterval time.Duration
	// MaxWait bounds how long a busy worker lets packets wait for others to the same destination.
	MaxWait time.Duration
	// Segmentation is SegmentationAuto or SegmentationOff.
	Segmentation string
	// Padding is PaddingAuto, PaddingAlways or PaddingOff.
	Padding string
	// BufferBytes is the wanted size of each socket buffer.
	BufferBytes int
}

// Interop is the main server.
type Interop struct {
	// APIBaseURL is empty when there is no main server.
	APIBaseURL string
	// WSBaseURL is derived from APIBaseURL when it is not given.
	WSBaseURL string
	// Timeout bounds one HTTP call.
	Timeout time.Duration
	// ICEServersInterval is the time between reads of the ICE servers.
	ICEServersInterval time.Duration
}

// Workers are the worker processes.
type Workers struct {
	// Count is 0 for one per CPU that can be used fully.
	Count int
	// Spare keeps one started worker ready.
	Spare bool
	// Binary is the worker program, empty for the one beside the supervisor.
	Binary string
	// OrphanTimeout is how long workers outlive their supervisor without users.
	OrphanTimeout time.Duration
	// StopTimeout is how long a worker may take to end.
	StopTimeout time.Duration
	// RestartBurst is how many processes of a worker may die young one after another without a
	// pause before the next process.
	RestartBurst int
}

// Log is how the process logs.
type Log struct {
	Level slog.Level
	// Format is "text" or "json".
	Format string
}

// MaxBind bounds Media.Bind.
const MaxBind = 8

// MaxWorkers bounds Workers.Count.
const MaxWorkers = 1024

// Production says whether the process serves real users.
func (c Config) Production() bool { return c.Environment == Production }

// DefaultHost is announced for media when neither Media.IPv4 nor Media.IPv6 is set.
func (c Config) DefaultHost() string {
	if c.Production() {
		return "api.darelisme.my.id"
	}
	return "localhost"
}
