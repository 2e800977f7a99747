// Package netiotest owns an in-memory twin of netio.UDP for tests.
package netiotest

import (
	"net/netip"

	"github.com/dspeak/sfu/worker/netio"
)

// Packet is one datagram that the code under test sent.
type Packet struct {
	To   netip.AddrPort
	Data []byte
}

// UDP is an in-memory netio.UDP. Inject, Sent and WaitSent are for the test's goroutines.
type UDP struct{ netio.UDP }

// NewUDP returns a twin bound to addr. Its FD can be polled.
func NewUDP(addr netip.AddrPort, opts netio.UDPOptions) (*UDP, error) { return nil, nil }

// Inject makes a datagram arrive.
func (u *UDP) Inject(from netip.AddrPort, arrivalNanos int64, data []byte) {}

// Sent takes all packets written so far.
func (u *UDP) Sent() []Packet { return nil }

// Written is signalled (capacity 1) after a write.
func (u *UDP) Written() <-chan struct{} { return nil }

// Block makes writes end with ErrWouldBlock until it is called with false.
func (u *UDP) Block(on bool) {}
