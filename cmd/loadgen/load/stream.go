package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/worker/netio"
)

const (
	// redialAfter is how long a client waits before it dials a lost connection again.
	redialAfter = 100 * time.Millisecond
	// maxFrame is the largest frame of RFC 4571.
	maxFrame = 1<<16 - 1
)

// stream is what a transport over TCP has more than one over UDP. A lost
// connection is dialled again by the transport itself, as Chromium does; ICE
// credentials and DTLS stay. The engine owns it, but for dials.
type stream struct {
	address netip.AddrPort
	framer  *netio.Framer
	// redialAt is when a lost connection is dialled again, by CLOCK_MONOTONIC; 0: it
	// is there.
	redialAt int64
	// dials counts the connections after the first.
	dials atomic.Uint64
}

func newStream(address netip.AddrPort) *stream {
	return &stream{address: address, framer: netio.NewFramer(maxFrame)}
}

// dialTCP returns a non-blocking TCP connection to the address.
func dialTCP(to netip.AddrPort) (int, error) {
	domain, address := sockaddr(to)
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open TCP socket: %w", err)
	}
	limit := unix.NsecToTimeval(int64(time.Second)) // of connect, which SO_SNDTIMEO bounds
	if err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err == nil {
		err = unix.Connect(fd, address)
	}
	if err == nil {
		err = errors.Join(unix.SetNonblock(fd, true), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("connect to %s: %w", to, err), unix.Close(fd))
	}
	return fd, nil
}

// frame returns a frame of RFC 4571 section 2.
func frame(datagram []byte) []byte {
	f := make([]byte, 2, 2+len(datagram))
	binary.BigEndian.PutUint16(f, uint16(len(datagram)))
	return append(f, datagram...)
}

// writeFrame sends one frame in one system call, so that two goroutines may send.
// A frame that does not fit whole ends the connection.
func (t *transport) writeFrame(datagram []byte) {
	f := frame(datagram)
	n, err := unix.Write(t.fd, f)
	if err != nil {
		t.engine.writeErrors.Add(1)
		return
	}
	if n < len(f) {
		_ = unix.Shutdown(t.fd, unix.SHUT_RDWR) // the engine reads the end and dials again
	}
}

// receiveStream reads all that a connection holds.
func (e *engine) receiveStream(t *transport) {
	for range maxDescriptors {
		n, err := unix.Read(t.fd, t.stream.framer.Space())
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			return
		}
		if err != nil || n == 0 {
			t.stream.redialAt = e.clock.now() + int64(redialAfter)
			return
		}
		t.stream.framer.Filled(n)
		at := time.Now().UnixNano()
		for {
			frame, whole, err := t.stream.framer.Next()
			if err != nil {
				e.malformed++
				_ = unix.Shutdown(t.fd, unix.SHUT_RDWR)
				return
			}
			if !whole {
				break
			}
			e.handle(t, frame, at)
		}
	}
}

// redial dials a lost connection again when it is time.
func (e *engine) redial(t *transport, now int64) {
	if t.stream.redialAt == 0 || now < t.stream.redialAt {
		return
	}
	t.stream.redialAt = now + int64(redialAfter)
	fd, err := dialTCP(t.stream.address)
	if err != nil {
		return // again later
	}
	t.stream.framer = netio.NewFramer(maxFrame)
	if _, err = unix.Write(fd, frame(t.checkMessage())); err == nil { // what the server wants first
		err = unix.Dup3(fd, t.fd, unix.O_CLOEXEC) // the number stays: others write to it
	}
	_ = unix.Close(fd)
	if err == nil {
		event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(t.fd)}
		err = unix.EpollCtl(e.epoll, unix.EPOLL_CTL_ADD, t.fd, &event)
	}
	if err != nil {
		e.writeErrors.Add(1)
		return
	}
	t.stream.redialAt = 0
	t.stream.dials.Add(1)
}
