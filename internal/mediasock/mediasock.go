//go:build unix

package mediasock

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
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

// String is "IPv4" or "IPv6".
func (f Family) String() string { return fmt.Sprintf("IPv%d", int(f)) }

const (
	defaultBuffer = 4 << 20
	backlog       = 1024
	portTries     = 32 // for a port that is free for UDP and TCP
)

// Config says what to open.
type Config struct {
	// Family is IPv4 or IPv6. IPv6 sockets take no IPv4.
	Family Family
	// Addr is the address to bind; the zero Addr is all of the family.
	Addr netip.Addr
	// Port is the port of both sockets; 0 picks one that is free for both.
	Port uint16
	// BufferBytes is the wanted size of each buffer of the UDP socket; default
	// 4 MiB.
	BufferBytes int
}

// Pair is a UDP socket and a TCP listener on the same port. Both are
// non-blocking and closed on exec. The Go runtime does not poll them: otherwise
// every packet that a worker receives would wake this process, too. So their
// Read and Write are of no use; pass their descriptors on.
type Pair struct {
	UDP, TCP *os.File
	// Addr is the bound address.
	Addr netip.AddrPort
	// ReceiveBuffer and SendBuffer are the sizes in bytes that the kernel gave
	// the UDP socket; less than wanted without CAP_NET_ADMIN (see
	// net.core.rmem_max and wmem_max).
	ReceiveBuffer, SendBuffer int
}

// Open opens both sockets or none. Errors: ErrFamilyMissing when the machine
// lacks the family, errs.ErrExists when the port is occupied, errs.ErrDenied
// when it is reserved, errs.ErrInvalid for a configuration that cannot work, with
// errs.ErrUnavailable when it may work later: the machine lacks the address.
// Their text names address, port, protocol and the variable to change.
func Open(cfg Config) (*Pair, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if !cfg.Addr.IsValid() {
		cfg.Addr = netip.IPv4Unspecified()
		if cfg.Family == IPv6 {
			cfg.Addr = netip.IPv6Unspecified()
		}
	}
	if cfg.Addr.IsUnspecified() && !hasAddress(cfg.Family) {
		return nil, fmt.Errorf("open media sockets: no interface has an %v address: %w", cfg.Family, ErrFamilyMissing)
	}
	for try := 1; ; try++ {
		pair, err := cfg.openPair()
		if err == nil || cfg.Port != 0 || try == portTries || !errors.Is(err, errs.ErrExists) {
			return pair, err
		}
	}
}

func (c *Config) check() error {
	c.BufferBytes = cmp.Or(c.BufferBytes, defaultBuffer)
	c.Addr = c.Addr.Unmap()
	switch {
	case c.Family != IPv4 && c.Family != IPv6:
		return fmt.Errorf("open media sockets: family %d: %w", c.Family, errs.ErrInvalid)
	case c.Addr.IsValid() && c.Addr.Is4() != (c.Family == IPv4):
		return fmt.Errorf("open media sockets: %s is no %v address: %w", c.Addr, c.Family, errs.ErrInvalid)
	case c.BufferBytes < 0:
		return fmt.Errorf("open media sockets: buffer of %d bytes: %w", c.BufferBytes, errs.ErrInvalid)
	}
	return nil
}

// hasAddress reports whether any interface has an address of the family: a
// wildcard socket can be bound even where the family is switched off. What
// cannot be found out counts as yes.
func hasAddress(family Family) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Unmap().Is4() == (family == IPv4) {
			return true
		}
	}
	return false
}

// openPair opens the UDP socket, then the listener on the same port.
func (c *Config) openPair() (pair *Pair, err error) {
	pair = &Pair{}
	defer func() {
		if err != nil {
			err = errors.Join(err, pair.Close())
			pair = nil
		}
	}()
	if pair.UDP, err = c.open("UDP", unix.SOCK_DGRAM, c.Port); err != nil {
		return pair, err
	}
	fd := int(pair.UDP.Fd())
	name, err := unix.Getsockname(fd)
	if err != nil {
		return pair, fmt.Errorf("open media sockets: address of the UDP socket: %w", err)
	}
	pair.Addr = netip.AddrPortFrom(c.Addr, portOf(name))
	setBuffers(fd, c.BufferBytes)
	pair.ReceiveBuffer, pair.SendBuffer = bufferSize(fd, unix.SO_RCVBUF), bufferSize(fd, unix.SO_SNDBUF)
	pair.TCP, err = c.open("TCP", unix.SOCK_STREAM, pair.Addr.Port())
	return pair, err
}

// open opens and binds one socket, and makes a stream socket listen.
func (c *Config) open(protocol string, kind int, port uint16) (*os.File, error) {
	domain := unix.AF_INET
	if c.Family == IPv6 {
		domain = unix.AF_INET6
	}
	// No child may inherit the socket between its creation and the flag.
	syscall.ForkLock.RLock()
	fd, err := unix.Socket(domain, kind, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, c.explain(protocol, port, err)
	}
	if err := c.prepare(fd, kind, port); err != nil {
		return nil, errors.Join(c.explain(protocol, port, err), unix.Close(fd))
	}
	// Still blocking here, which keeps the runtime from polling it.
	file := os.NewFile(uintptr(fd), protocol+" "+netip.AddrPortFrom(c.Addr, port).String())
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(c.explain(protocol, port, err), file.Close())
	}
	return file, nil
}

func (c *Config) prepare(fd, kind int, port uint16) error {
	var name unix.Sockaddr = &unix.SockaddrInet4{Port: int(port), Addr: as4(c.Addr)}
	if c.Family == IPv6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return fmt.Errorf("IPV6_V6ONLY: %w", err)
		}
		name = &unix.SockaddrInet6{Port: int(port), Addr: c.Addr.As16()}
	}
	if kind == unix.SOCK_DGRAM {
		return unix.Bind(fd, name) // without SO_REUSEADDR: it would share an occupied port
	}
	// Connections of an earlier run that are still winding down block no port.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("SO_REUSEADDR: %w", err)
	}
	if err := unix.Bind(fd, name); err != nil {
		return err
	}
	return unix.Listen(fd, backlog)
}

// explain turns a system error into one line that names the fault and the fix.
func (c *Config) explain(protocol string, port uint16, err error) error {
	where := fmt.Sprintf("open media socket %s %s", protocol, netip.AddrPortFrom(c.Addr, port))
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%s: the port is occupied; stop the program that uses it or set SFU_PORT to another port: %w",
			where, errs.ErrExists)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%s: this port is reserved; set SFU_PORT to a port above 1023: %w", where, errs.ErrDenied)
	case errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EPROTONOSUPPORT):
		return fmt.Errorf("%s: %w", where, ErrFamilyMissing)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("%s: this machine does not have the address; set DSPEAK_MEDIA_BIND to addresses that it has: %w: %w",
			where, errs.ErrUnavailable, errs.ErrInvalid)
	}
	return fmt.Errorf("%s: %w", where, err)
}

// bufferSize reads a buffer's size. Linux reports twice what may be used.
func bufferSize(fd, option int) int {
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option)
	if err != nil {
		return 0
	}
	return n / bookkeeping
}

func as4(addr netip.Addr) (out [4]byte) {
	if addr.Is4() {
		out = addr.As4()
	}
	return out
}

func portOf(name unix.Sockaddr) uint16 {
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return uint16(a.Port)
	case *unix.SockaddrInet6:
		return uint16(a.Port)
	}
	return 0
}

// BoundAddr is the address that a socket of Open is bound to, whoever opened it.
func BoundAddr(f *os.File) (netip.AddrPort, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address of %s: %w", f.Name(), err)
	}
	var name unix.Sockaddr
	var fault error
	err = raw.Control(func(fd uintptr) { name, fault = unix.Getsockname(int(fd)) })
	if err = errors.Join(err, fault); err != nil {
		return netip.AddrPort{}, fmt.Errorf("address of %s: %w", f.Name(), err)
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), portOf(name)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), portOf(name)), nil
	}
	return netip.AddrPort{}, fmt.Errorf("%s is no socket of an IP family: %w", f.Name(), errs.ErrInvalid)
}

// Close closes both sockets. Copies handed to workers stay open.
func (p *Pair) Close() error {
	var err error
	for _, f := range []*os.File{p.UDP, p.TCP} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}
