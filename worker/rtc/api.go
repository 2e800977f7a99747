package rtc

import (
	"net/netip"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/ortc"
)

// Family selects the address family of a transport's candidates.
type Family uint8

// The families. FamilyAny announces every family that the worker serves.
const (
	FamilyAny Family = iota
	FamilyIPv4
	FamilyIPv6
)

// IceParameters are a transport's own ICE credentials.
type IceParameters struct {
	UsernameFragment string
	Password         string
	IceLite          bool
}

// IceCandidate is one address of a transport. IP and Address hold the same
// literal address.
type IceCandidate struct {
	Foundation string
	Priority   uint32
	IP         string
	Address    string
	Protocol   string // "udp" or "tcp"
	Port       uint16
	Type       string // always "host"
	TCPType    string // "passive" for tcp, empty for udp
}

// DtlsFingerprint is the hash of a certificate, as in SDP: Algorithm "sha-256",
// Value "AB:CD:…".
type DtlsFingerprint struct {
	Algorithm string
	Value     string
}

// DtlsParameters are a peer's DTLS role and fingerprints. Role is "auto",
// "client" or "server"; empty means "auto".
type DtlsParameters struct {
	Role         string
	Fingerprints []DtlsFingerprint
}

// CreateTransportParams says what transport to make.
type CreateTransportParams struct {
	Router ident.RouterID
	ID     ident.TransportID
	Family Family
	// Announced replaces the configured announced addresses when not empty; at most 32.
	Announced []netip.AddrPort
	// AppData is opaque, at most 16 KiB, and returned by Dump.
	AppData []byte

	request ledger.Digest // of the call, as below
}

// TransportInfo is what a client needs to reach a transport.
type TransportInfo struct {
	IceParameters  IceParameters
	IceCandidates  []IceCandidate
	DtlsParameters DtlsParameters
}

// ProduceParams says what producer to make.
type ProduceParams struct {
	Transport     ident.TransportID
	ID            ident.ProducerID
	Kind          string
	RtpParameters ortc.RtpParameters
	Paused        bool

	request ledger.Digest
}

// ConsumeParams says what consumer to make. Producer and Transport must be of one
// router.
type ConsumeParams struct {
	Transport       ident.TransportID
	ID              ident.ConsumerID
	Producer        ident.ProducerID
	RtpCapabilities ortc.RtpCapabilities
	Paused          bool

	request ledger.Digest
}

// ConsumeResult is what a client needs to receive a consumer.
type ConsumeResult struct {
	Kind           string
	RtpParameters  ortc.RtpParameters
	ProducerPaused bool
}

// IceState is where a transport's ICE stands.
type IceState uint8

// The ICE states: new until the first valid check, disconnected while checks are
// overdue.
//
//	new -> connected <-> disconnected -> closed
const (
	IceNew IceState = iota + 1
	IceConnected
	IceDisconnected
	IceClosed
)

// DtlsState is where a transport's DTLS stands.
type DtlsState uint8

// The DTLS states.
//
//	new -> connecting -> connected | failed; any -> closed
const (
	DtlsNew DtlsState = iota + 1
	DtlsConnecting
	DtlsConnected
	DtlsFailed
	DtlsClosed
)

// Reasons of TransportClosed events.
const (
	ReasonConsentExpired = "ice consent expired"
	ReasonNeverConnected = "never connected"
	ReasonDtlsFailed     = "dtls failed"
	ReasonDtlsClosed     = "dtls closed"
)

// EventKind tells events apart.
type EventKind uint8

// The kinds of events.
const (
	// EventTransportClosed: the worker gave the transport up by itself, with all
	// its producers and consumers. Reason is one of the Reason constants.
	EventTransportClosed EventKind = iota + 1
	// EventTransportState: ICE or DTLS changed its state.
	EventTransportState
)

// Event is something that happened without a call.
type Event struct {
	Kind      EventKind
	Router    ident.RouterID
	Transport ident.TransportID
	Reason    string
	IceState  IceState
	DtlsState DtlsState
}
