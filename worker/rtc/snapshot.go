package rtc

import (
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/worker/ortc"
)

// WorkerDump is a copy of the object tree, without secrets.
type WorkerDump struct {
	Slot       ident.Slot
	PID        int
	Generation ident.Generation
	Epoch      ident.Epoch
	Routers    []RouterDump
	// RtpCapabilities are what every router offers.
	RtpCapabilities ortc.RtpCapabilities
}

// RouterDump is a router with its transports.
type RouterDump struct {
	ID         ident.RouterID
	Transports []TransportDump
	AppData    []byte
}

// IceTuple is a pair of addresses in use. Protocol is "udp" or "tcp".
type IceTuple struct {
	Protocol      string
	LocalAddress  string
	LocalPort     uint16
	RemoteAddress string
	RemotePort    uint16
}

// TransportDump is a transport with its producers and consumers.
type TransportDump struct {
	ID            ident.TransportID
	IceState      IceState
	DtlsState     DtlsState
	DtlsLocalRole string    // "client", "server", or "auto" before ConnectTransport
	SrtpProfile   string    // empty before DTLS is connected
	Tuple         *IceTuple // nil before the first valid check
	Producers     []ProducerDump
	Consumers     []ConsumerDump
	AppData       []byte
}

// ProducerDump is a producer's declared state.
type ProducerDump struct {
	ID                      ident.ProducerID
	Kind                    string
	RtpParameters           ortc.RtpParameters
	ConsumableRtpParameters ortc.RtpParameters
	Paused                  bool

	raw []byte // JSON of a producerDeclared
}

// ConsumerDump is a consumer's declared state.
type ConsumerDump struct {
	ID             ident.ConsumerID
	ProducerID     ident.ProducerID
	Kind           string
	RtpParameters  ortc.RtpParameters
	Paused         bool
	ProducerPaused bool

	raw []byte // JSON of RtpParameters
}

// StatsTarget names what to report on. At most one field may be set; none means
// every object. A router or transport stands for itself and all below it.
type StatsTarget struct {
	Router    ident.RouterID
	Transport ident.TransportID
	Producer  ident.ProducerID
	Consumer  ident.ConsumerID
}

// Stats are the statistics of the objects asked for. Counters run from an
// object's creation.
type Stats struct {
	Transports []TransportStats
	Producers  []ProducerStats
	Consumers  []ConsumerStats
}

// TransportStats are the counters of a transport. Bytes count datagram or frame
// contents, of every protocol.
type TransportStats struct {
	Transport        ident.TransportID
	Router           ident.RouterID
	IceState         IceState
	DtlsState        DtlsState
	Tuple            *IceTuple // nil before the first valid check
	BytesReceived    uint64
	BytesSent        uint64
	PacketsReceived  uint64
	PacketsSent      uint64
	PacketsDiscarded uint64  // received, but malformed, forged, replayed or unknown
	PacketsDropped   uint64  // not sent: kernel buffer or TCP queue full
	LastCheckAgeMs   *uint32 // nil before the first valid check
}

// ProducerStats are the statistics of an incoming stream.
type ProducerStats struct {
	Producer        ident.ProducerID
	Transport       ident.TransportID
	Router          ident.RouterID
	SSRC            uint32 // 0 while it is not yet learnt
	Packets         uint64
	Bytes           uint64 // RTP payload
	PacketsLost     int64  // RFC 3550 A.3
	JitterMs        float64
	RoundTripTimeMs *float64 // nil: never measured
	AudioLevelDbov  *int32   // nil: no RFC 6464 extension seen; smoothed, -127 to 0
	LastPacketAgeMs *uint32  // nil before the first packet
	Paused          bool
	NacksSent       uint64
	PacketsLate     uint64 // received, but too late to be forwarded: the worker was overloaded
}

// ConsumerStats are the statistics of an outgoing stream. Loss and jitter are what
// the receiver last reported.
type ConsumerStats struct {
	Consumer        ident.ConsumerID
	Producer        ident.ProducerID
	Transport       ident.TransportID
	Router          ident.RouterID
	SSRC            uint32
	Packets         uint64
	Bytes           uint64 // RTP payload
	PacketsLost     int64
	FractionLost    float64  // 0 to 1
	JitterMs        *float64 // nil before the first report
	RoundTripTimeMs *float64 // nil before the first report that answers one of ours
	AudioLevelDbov  *int32
	LastPacketAgeMs *uint32
	Paused          bool
	ProducerPaused  bool
	Retransmitted   uint64
}

// Usage counts the objects of a loop and its packets since it started.
type Usage struct {
	Routers         int
	Transports      int
	Producers       int
	Consumers       int
	TCPConnections  int
	PacketsReceived uint64
	PacketsSent     uint64
	PacketsDropped  uint64
	PacketsLate     uint64 // as in ProducerStats
	PaddingBytes    uint64 // added to forwarded payloads
	EventsLost      uint64
	// BusyShare is the share of time in which the loop did not wait, 0 to 1, over
	// about the last second.
	BusyShare float64
	Sockets   SocketStats
}

// SocketStats are the counts of all media sockets together. KernelDrops run since
// the sockets were opened, in whatever process; all others since the loop started.
type SocketStats struct {
	BytesReceived, BytesSent uint64 // datagrams, and frames of TCP
	KernelDrops              uint64 // datagrams that nobody read in time
	Truncated                uint64 // datagrams longer than a receive buffer
	Refused                  uint64 // packets to a destination that the kernel refused
	WouldBlock               uint64 // writes that found the buffer full
	SegmentationRefused      uint64 // sockets whose kernel refused UDP_SEGMENT in use
	TCPRefused               uint64 // connections over a limit
	TCPDropped               uint64 // frames that a connection's queue could not hold
	TCPBadFrames             uint64 // connections closed because of a frame too long
	// MaxSegments is how many packets one send of a UDP socket holds: 1 when the
	// kernel segments nothing, 0 without a UDP socket.
	MaxSegments int
}
