package netio

import (
	"errors"
	"net/netip"
)

// ErrWouldBlock says that the socket takes no more now: wait until it is
// writable and go on with what is left.
var ErrWouldBlock = errors.New("socket would block")

// Message is one received datagram.
type Message struct {
	// Buf is where the datagram goes. The caller owns it and sets it before
	// ReadBatch; a longer datagram is dropped and counted.
	Buf []byte
	// N is the length of the datagram in bytes.
	N int
	// Addr is the sender. An IPv6 zone is not filled in.
	Addr netip.AddrPort
	// Local is the address that the sender asked.
	Local Local
	// ArrivalNanos is the kernel's arrival time in nanoseconds since the Unix
	// epoch, 0 when the socket has none.
	ArrivalNanos int64
}

// Local is the end of a path on this machine: the address that a datagram was sent to,
// and that its answers must come from. A wildcard socket of a machine with several
// addresses would answer from another one, which a client takes for a stranger's. The
// zero Local leaves the choice to the kernel; so does a socket that is bound to one
// address. It holds no pointer, which keeps its hash cheap.
type Local struct {
	// addr is IPv4-mapped for IPv4.
	addr [16]byte
	// scope is the interface of a path with a link-local address of IPv6, else 0: the
	// same address may stand for different machines on different interfaces.
	scope uint32
}

// LocalOf is the Local of an address.
func LocalOf(addr netip.Addr) Local { return Local{addr: addr.As16()} }

// LocalFrom undoes Parts.
func LocalFrom(addr [16]byte, scope uint32) Local { return Local{addr: addr, scope: scope} }

// Parts are an address, IPv4-mapped for IPv4, and an interface, for storage.
func (l Local) Parts() (addr [16]byte, scope uint32) { return l.addr, l.scope }

// Addr is the address; the zero Addr: it is the kernel's choice.
func (l Local) Addr() netip.Addr {
	if l.addr == [16]byte{} {
		return netip.Addr{}
	}
	return netip.AddrFrom16(l.addr).Unmap()
}

// Send is one or more packets to one destination.
type Send struct {
	// Addr is the destination; its family must be that of the socket.
	Addr netip.AddrPort
	// Local is the address to send from. If the machine does not have it any more, the
	// packets are refused.
	Local Local
	// Packets are the datagrams. At most MaxPackets of them leave together, and
	// only if all are SegmentSize bytes long (the last may be shorter);
	// otherwise they leave one by one. When WriteBatch stops in the middle of a
	// Send it moves the slice forward over the packets that are gone.
	Packets [][]byte
	// SegmentSize is the size of the packets in bytes when there are several;
	// with one packet it is ignored.
	SegmentSize int
}

// Bounds of one batch and of one Send.
const (
	// MaxReceive is how many datagrams one ReadBatch takes at most.
	MaxReceive = 32
	// MaxPackets is how many packets of a Send leave together at most.
	MaxPackets = 16
	// MaxSendBytes is the largest sum of the sizes of a Send's packets that
	// the offload takes; a larger Send leaves packet by packet.
	MaxSendBytes = 65000
)

// UDP is one bound, unconnected socket. Its methods belong to the media loop.
type UDP interface {
	// FD is the descriptor to wait on.
	FD() int
	// ReadBatch fills ms from the front and returns how many. Nothing to read
	// is 0 and no error.
	ReadBatch(ms []Message) (n int, err error)
	// WriteBatch hands ss to the kernel in order and returns how many are done
	// with: taken by the kernel, or skipped because of their destination and
	// counted. With ErrWouldBlock, ss[n:] is left to be written later.
	WriteBatch(ss []Send) (n int, err error)
	// LocalAddr is the bound address.
	LocalAddr() netip.AddrPort
	// MaxSegments is how many packets a Send may hold with gain: 1 when the
	// kernel segments nothing. It may drop to 1 while the socket is in use.
	MaxSegments() int
	// Close closes the descriptor.
	Close() error
}

// Counters are counts of one socket. The media loop owns them.
type Counters struct {
	// ReceivedPackets and ReceivedBytes count datagrams given to the caller.
	ReceivedPackets, ReceivedBytes uint64
	// SentPackets and SentBytes count datagrams taken by the kernel.
	SentPackets, SentBytes uint64
	// Truncated counts received datagrams that did not fit their buffer.
	Truncated uint64
	// KernelDrops is how many datagrams the kernel dropped because nobody read
	// them in time, since the socket was opened, in whatever process. It moves
	// only with the next datagram that is received.
	KernelDrops uint32
	// Refused counts packets skipped because the kernel refused their destination.
	Refused uint64
	// WouldBlock counts writes that found the socket's buffer full.
	WouldBlock uint64
	// OffloadDropped is 1 when the kernel refused UDP_SEGMENT in use and the
	// socket went on without.
	OffloadDropped uint64
	// LastError is the last refusal behind Refused and OffloadDropped, nil: none.
	LastError error
}

// UDPOptions change how a socket is used. The zero value is the normal case.
type UDPOptions struct {
	// NoOffload makes the socket behave as on a kernel without UDP_SEGMENT.
	NoOffload bool
	// NoTimestamps leaves kernel arrival times out.
	NoTimestamps bool
	// Counters is where the socket counts; nil: nowhere the caller sees.
	Counters *Counters
}
