package ledger

import (
	"sync/atomic"

	"github.com/dspeak/sfu/worker/rtp"
)

// MaxName bounds an object's name, in bytes.
const MaxName = 128

// Name is a text of at most MaxName bytes.
type Name struct {
	n    uint8
	text [MaxName]byte
}

// CName is a text of at most 255 bytes (RFC 3550 section 6.5).
type CName struct {
	n    uint8
	text [255]byte
}

// Set takes the first 255 bytes of s.
func (c *CName) Set(s string) { c.n = uint8(copy(c.text[:], s)) }

// String is the text.
func (c *CName) String() string { return string(c.text[:c.n]) }

// Set takes the first MaxName bytes of s.
func (n *Name) Set(s string) { n.n = uint8(copy(n.text[:], s)) }

// String is the text.
func (n *Name) String() string { return string(n.text[:min(int(n.n), MaxName)]) }

func (n *Name) sound() bool { return n.n > 0 && n.n <= MaxName }

// Digest tells whether two calls were the same.
type Digest [16]byte

// Router is a router.
type Router struct {
	head

	Request Digest // of the call that made it
	AppData Blob
	Name    Name
}

func (r *Router) header() *head          { return &r.head }
func (r *Router) blobs() [maxBlobs]*Blob { return [maxBlobs]*Blob{&r.AppData} }

// Where a transport's DTLS stands.
const (
	// DtlsNew: nothing was sent yet.
	DtlsNew = iota
	// DtlsStarted: a handshake is under way, which nobody else can go on with.
	DtlsStarted
	// DtlsDone: the keys are there.
	DtlsDone
)

// Sizes of what a transport is made of.
const (
	UfragSize    = 16
	PasswordSize = 32
	KeySize      = 16
	SaltSize     = 14
	MaxPaths     = 8
)

// Transport is a transport. Fields without a word here are as in package rtc.
type Transport struct {
	head

	Router  Ref
	Family  uint8
	Checked bool          // a valid check came
	Role    atomic.Uint32 // ours in DTLS; 0 before ConnectTransport
	// Dtls is stored last of all that a step of DTLS brings.
	Dtls atomic.Uint32

	RTCPSSRC uint32
	// SSRCKey and NextMid make the consumers' SSRCs. NextMid is stored before its
	// predecessor is used.
	SSRCKey uint32
	NextMid uint32
	// RTCPReserved is the end of the SRTCP indexes that may have been used; it is
	// stored before they are.
	RTCPReserved atomic.Uint32

	Profile              uint16 // of SRTP, by its IANA number
	LocalKey, RemoteKey  [KeySize]byte
	LocalSalt            [SaltSize]byte
	RemoteSalt           [SaltSize]byte
	Finished             int64 // when the handshake was done, on the clock of ledgerfile.Now
	Ufrag                [UfragSize]byte
	Password             [PasswordSize]byte
	Paths                [MaxPaths]Path
	Request, ConnectedBy Digest
	// Remote is the peer's DTLS parameters as JSON until the handshake begins, State the
	// serialised DTLS state, LastFlight the datagrams that the peer may ask for again.
	AppData, Remote, State, LastFlight Blob
	Name                               Name
}

func (t *Transport) header() *head { return &t.head }
func (t *Transport) blobs() [maxBlobs]*Blob {
	return [maxBlobs]*Blob{&t.AppData, &t.Remote, &t.State, &t.LastFlight}
}

// States of a path.
const (
	PathFree = iota
	PathValid
	PathSelected
)

// Path is a validated pair of UDP addresses. The instants are on the clock of
// ledgerfile.Now, as of the last check or change of the selected path.
type Path struct {
	State     atomic.Uint32 // stored last
	V4        bool          // of the socket
	Port      uint16        // of the client
	Scope     uint32        // of Local
	Addr      [16]byte      // of the client
	Local     [16]byte      // the address that the client asked; zero: not known
	Since     int64         // start of the present run of checks
	Checked   int64         // last valid check
	Nominated int64         // last nomination; 0: never
	Heard     int64         // last authenticated packet; 0: never
}

// Producer is a producer.
type Producer struct {
	head

	Transport Ref
	Stream    atomic.Uint32 // a Ref; 0 while the SSRC is not known
	Paused    atomic.Uint32

	PayloadType, MidID, LevelID, TwccID uint8
	Nack, Feedback, ReducedSize         bool
	ClockRate                           uint32
	Request                             Digest
	// Declared is what the call said and was answered, as JSON.
	Declared Blob
	Mid      Name
	CName    CName
	Name     Name
}

func (p *Producer) header() *head          { return &p.head }
func (p *Producer) blobs() [maxBlobs]*Blob { return [maxBlobs]*Blob{&p.Declared} }

// TemplateSize is room for a consumer's RTP header.
const TemplateSize = 64

// Consumer is a consumer.
type Consumer struct {
	head

	Transport, Producer Ref
	SSRC                uint32
	Paused              atomic.Uint32

	PayloadType, HeaderLen, AbsSendTime, LevelElement, LevelLen uint8

	Mapping Mapping
	// Packets and Octets are what the last sender report said.
	Packets, Octets uint64
	Request         Digest
	// Params is what the client was told, as JSON.
	Params   Blob
	Template [TemplateSize]byte
	Name     Name
}

func (c *Consumer) header() *head          { return &c.head }
func (c *Consumer) blobs() [maxBlobs]*Blob { return [maxBlobs]*Blob{&c.Params} }

// Mapping is how the numbers of a producer's stream become a consumer's: outgoing =
// incoming + offset, for a run that began with the incoming number from. Nothing is
// stored per packet: within a run the highest number used is at most the stream's
// highest + offset.
type Mapping struct {
	synced atomic.Uint32 // a run is under way; stored after what it makes valid
	_      uint32
	offset int64
	from   uint64
	last   uint64 // highest number used before the present run
}

// Start sets the highest number that counts as used already.
func (m *Mapping) Start(last uint64) { m.last = last }

// Begin notes a run before its first number is used.
func (m *Mapping) Begin(offset int64, from uint64) {
	m.offset, m.from = offset, from
	m.synced.Store(1)
}

// End ends the run; last is the highest number used.
func (m *Mapping) End(last uint64) {
	m.last = last
	m.synced.Store(0)
}

// Load is the mapping of a successor, for which highest is the highest incoming
// number. last is at least what was used.
func (m *Mapping) Load(highest uint64) (offset int64, from, last uint64, synced bool) {
	synced = m.synced.Load() != 0
	last = m.last
	if out := int64(highest) + m.offset; synced && out > 0 {
		last = max(last, uint64(out))
	}
	return m.offset, m.from, last, synced
}

// Stream is an incoming SSRC of a transport.
type Stream struct {
	head

	Transport Ref
	SSRC      uint32
	RTP       Window
	RTCP      Window // of SRTCP indexes
	LastSeen  int64  // on the clock of ledgerfile.Now, as below; 0: never
	Reception rtp.Reception
	Report    SenderReport
}

func (s *Stream) header() *head            { return &s.head }
func (*Stream) blobs() (b [maxBlobs]*Blob) { return b }

// SenderReport is what a sender's reports (RFC 3550 section 6.4.1) told.
type SenderReport struct {
	NTP     uint64 // of the last report
	At      int64  // its arrival; 0: no report yet
	RTPTime uint32 // the same instant on the media clock
}
