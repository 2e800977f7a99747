package handshake

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/dspeak/sfu/internal/errs"
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
	AEADAES128GCM      Profile = 0x0007
	AES128CMHMACSHA180 Profile = 0x0001
)

// String is the name of RFC 5764 or RFC 7714.
func (p Profile) String() string {
	switch p {
	case AEADAES128GCM:
		return "SRTP_AEAD_AES_128_GCM"
	case AES128CMHMACSHA180:
		return "SRTP_AES128_CM_HMAC_SHA1_80"
	}
	return fmt.Sprintf("profile %#04x", uint16(p))
}

// SaltLen is the size of the master salt in bytes; 0: not a profile of ours.
func (p Profile) SaltLen() int {
	_, salt := p.lengths()
	return salt
}

// lengths returns the sizes of the master key and the master salt in bytes; 0:
// not a profile of ours.
func (p Profile) lengths() (key, salt int) {
	switch p {
	case AEADAES128GCM:
		return 16, 12 // RFC 7714 section 12
	case AES128CMHMACSHA180:
		return 16, 14 // RFC 5764 section 4.1.2
	}
	return 0, 0
}

// Defaults of Config.
const (
	defaultConcurrency    = 256
	defaultQueue          = 4096
	defaultTimeout        = 15 * time.Second
	defaultMTU            = 1200
	defaultFlightInterval = 500 * time.Millisecond
)

// Config is what all handshakes of a pool share. A zero field takes its default.
type Config struct {
	// Certificate is ours, with an ECDSA key. Required.
	Certificate tls.Certificate
	// Concurrency is how many handshakes run at once; default 256.
	Concurrency int
	// Queue is how many more may exist, waiting for their turn or for the
	// peer's first datagram; default 4096.
	Queue int
	// Timeout bounds one handshake from its start on; default 15 s.
	Timeout time.Duration
	// MTU is the largest datagram we send, in bytes; default 1200.
	MTU int
	// FlightInterval is the first retransmission interval, doubled each time;
	// default 500 ms.
	FlightInterval time.Duration
}

// withDefaults fills in the defaults and checks the rest.
func (c Config) withDefaults() (Config, error) {
	c.Concurrency = cmp.Or(c.Concurrency, defaultConcurrency)
	c.Queue = cmp.Or(c.Queue, defaultQueue)
	c.Timeout = cmp.Or(c.Timeout, defaultTimeout)
	c.MTU = cmp.Or(c.MTU, defaultMTU)
	c.FlightInterval = cmp.Or(c.FlightInterval, defaultFlightInterval)
	const minMTU = 256
	switch {
	case c.Concurrency < 0, c.Queue < 0, c.Timeout < 0, c.FlightInterval < 0, c.MTU < minMTU:
		return c, fmt.Errorf("handshake pool: a limit is negative, or the MTU is below %d: %w", minMTU, errs.ErrInvalid)
	case len(c.Certificate.Certificate) == 0, c.Certificate.PrivateKey == nil:
		return c, fmt.Errorf("handshake pool: no certificate: %w", errs.ErrInvalid)
	}
	if c.Certificate.Leaf == nil { // or the library parses it in each handshake
		leaf, err := x509.ParseCertificate(c.Certificate.Certificate[0])
		if err != nil {
			return c, fmt.Errorf("handshake pool: certificate: %w: %w", err, errs.ErrInvalid)
		}
		c.Certificate.Leaf = leaf
	}
	return c, nil
}

// Params describe one handshake.
type Params struct {
	// Role is ours.
	Role Role
	// Remote are the fingerprints that the peer announced, at most 16: its
	// certificate must match one. Only sha-256, sha-384 and sha-512 count.
	Remote []Fingerprint
	// Send sends one datagram. It is called from the handshake's goroutines,
	// one call at a time, must not block and must copy. It may be called once
	// more after Close.
	Send func(datagram []byte)
	// HoldLast leaves the last flight, if it is ours, to the caller: it is in the
	// Result only, so that nothing tells the peer of keys that nobody has kept yet.
	HoldLast bool
	// Done gets the outcome, once, from a goroutine of the pool, which is not
	// free for another handshake before it returns. It is not called for a
	// handshake that was closed before it ended.
	Done func(Result)
}

// Result is the outcome of a handshake. Err nil: all the rest is set.
type Result struct {
	// Err is nil, or wraps errs.ErrDenied (the certificate is not the announced
	// one), errs.ErrUnsupported (the peer offers no SRTP), errs.ErrUnavailable
	// (timeout), or what the handshake broke on.
	Err error
	// Profile is the negotiated protection profile.
	Profile Profile
	// LocalKey and LocalSalt protect what we send, the others what the peer sends.
	LocalKey, LocalSalt, RemoteKey, RemoteSalt []byte
	// State is the serialised DTLS state, for ParseAlert. It holds secrets.
	State []byte
	// LastFlight are the datagrams to be sent again when the peer repeats its last
	// flight, and a first time with HoldLast. Empty in the client role, where the peer's flight is the last.
	LastFlight [][]byte
}
