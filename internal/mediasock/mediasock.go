package mediasock

import (
	"errors"
	"net/netip"
	"os"
)

// ErrFamilyMissing says that the machine lacks the address family (IPv6
// switched off, for example), so that the caller can go on without it.
var ErrFamilyMissing = errors.New("address family not available on this machine")

// Family is an IP version.
type Family int

// The families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Config says what to open.
type Config struct {
	Family Family
	// Addr is the address to bind; the zero Addr is all of the family.
	Addr netip.Addr
	// Port is the port of both sockets; 0 picks one that is free for both.
	Port uint16
	// BufferBytes is the wanted size of each socket buffer; default 4 MiB.
	BufferBytes int
}

// Pair is a UDP socket and a TCP listener on the same port, non-blocking and closed on exec.
type Pair struct {
	UDP, TCP *os.File
	// Addr is the bound address.
	Addr netip.AddrPort
	// ReceiveBuffer and SendBuffer are the sizes in bytes that the kernel gave the UDP socket.
	ReceiveBuffer, SendBuffer int
}

// Open opens both sockets or none. ErrFamilyMissing when the machine lacks the family; an occupied port is an errs.ErrExists
// that names address, port, protocol and SFU_PORT.
func Open(cfg Config) (*Pair, error) { return nil, errors.ErrUnsupported }

// Close closes both sockets.
func (p *Pair) Close() error { return nil }
