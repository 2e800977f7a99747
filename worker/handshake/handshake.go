package handshake

import (
	"crypto/tls"
	"errors"
	"time"
)

// Role is our side of the handshake.
type Role int

// The roles. A Server waits for the peer's first datagram.
const (
	Server Role = iota + 1
	Client
)

// Profile is a DTLS-SRTP protection profile by its IANA number.
type Profile uint16

// The profiles, preferred first.
const (
	AEADAES128GCM       Profile = 0x0007
	AES128CMHMACSHA1_80 Profile = 0x0001
)

// Fingerprint is the hash of a certificate as in SDP: algorithm "sha-256",
// value "AB:CD:…". Both compare without regard to case.
type Fingerprint struct {
	Algorithm, Value string
}

// Config is what all handshakes of a pool share. A zero field takes its default.
type Config struct {
	// Certificate is ours. Required.
	Certificate tls.Certificate
	// Concurrency is how many handshakes run at once; default 256.
	Concurrency int
	// Queue is how many more may wait; default 4096.
	Queue int
	// Timeout bounds one handshake from its first datagram; default 15 s.
	Timeout time.Duration
	// MTU is the largest datagram we send, in bytes; default 1200.
	MTU int
	// FlightInterval is the first retransmission interval, doubled each time; default 500 ms.
	FlightInterval time.Duration
}

// Params describe one handshake.
type Params struct {
	Role Role
	// Remote are the fingerprints that the peer announced: its certificate must
	// match one.
	Remote []Fingerprint
	// Send sends one datagram. It is called from the handshake's goroutine and
	// must copy. It may be called once more after Close.
	Send func(datagram []byte)
	// Done gets the outcome, once, from a goroutine of the pool. It is not
	// called for a handshake that was closed first.
	Done func(Result)
}

// Result is the outcome of a handshake. Err nil: all the rest is set.
type Result struct {
	// Err is nil, or wraps errs.ErrDenied (fingerprint), errs.ErrUnsupported (no SRTP profile), errs.ErrUnavailable (timeout) or anything else.
	Err     error
	Profile Profile
	// LocalKey and LocalSalt protect what we send, the others what the peer sends.
	LocalKey, LocalSalt, RemoteKey, RemoteSalt []byte
	// State is the serialised DTLS state, for ParseAlert.
	State []byte
	// LastFlight are the datagrams to be sent again when the peer repeats its
	// last flight. Empty in the client role, where the peer's flight is the last.
	LastFlight [][]byte
}

// Pool runs handshakes.
type Pool struct{}

// NewPool returns a pool. It starts goroutines only for running handshakes.
func NewPool(cfg Config) (*Pool, error) { return nil, errors.ErrUnsupported }

// Start begins a handshake: in the client role at once, in the server role with the
// first datagram fed. It never blocks. errs.ErrExhausted: too many wait already; errs.ErrInvalid: bad params.
// Any goroutine.
func (p *Pool) Start(params Params) (*Handshake, error) { return nil, errors.ErrUnsupported }

// Close ends all handshakes and waits for their goroutines. Done is not called for those that were under way.
func (p *Pool) Close() {}

// Handshake is one handshake under way.
type Handshake struct{}

// Feed gives a received datagram to the handshake. It copies, never blocks, and drops
// what a full queue cannot take. Any goroutine.
func (h *Handshake) Feed(datagram []byte) {}

// Close gives the handshake up without waiting. Any goroutine, repeated calls do nothing.
func (h *Handshake) Close() {}

// NewCertificate makes a self-signed ECDSA P-256 certificate and its fingerprints (sha-256, sha-384, sha-512).
func NewCertificate() (tls.Certificate, []Fingerprint, error) {
	return tls.Certificate{}, nil, errors.ErrUnsupported
}

// FingerprintsOf returns the fingerprints (sha-256, sha-384, sha-512) of a certificate.
func FingerprintsOf(cert tls.Certificate) ([]Fingerprint, error) { return nil, errors.ErrUnsupported }

// ParseAlert reports whether a datagram holds an authentic close_notify or fatal alert of the peer
// whose handshake gave state. Forged, replayed or other records are false and no error. Any goroutine.
func ParseAlert(state, datagram []byte) (closed bool, err error) { return false, errors.ErrUnsupported }
