//go:build unix

package netio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"golang.org/x/sys/unix"
)

// readLimit bounds the bytes that one ReadFrames takes, so that one connection
// cannot hold the loop.
const readLimit = 64 << 10

// TCPConn is one accepted connection that carries RFC 4571 frames. It belongs
// to the media loop.
type TCPConn struct {
	// Owner is for the caller alone: what it keeps per connection.
	Owner any

	fd       int
	listener *TCPListener
	source   netip.Addr
	remote   netip.AddrPort
	local    netip.AddrPort
	active   int64
	framer   *Framer
	queue    frameQueue
	closed   bool
	poller   *Poller
	slot     int
}

// RemoteAddr is the peer's address.
func (c *TCPConn) RemoteAddr() netip.AddrPort { return c.remote }

// LocalAddr is the address that the peer connected to.
func (c *TCPConn) LocalAddr() netip.AddrPort { return c.local }

// Source is what a limit counts the peer by: its IPv4 address or its IPv6 /64.
func (c *TCPConn) Source() netip.Addr { return c.source }

// LastActive is the now of the last successful read, or of Accept.
func (c *TCPConn) LastActive() int64 { return c.active }

// Closed reports whether Close was called.
func (c *TCPConn) Closed() bool { return c.closed }

// Queued is how many bytes wait to be sent.
func (c *TCPConn) Queued() int { return c.queue.len() }

// ReadFrames reads what is there, at most 64 KiB a call, and calls fn for every
// whole frame; the frame is valid during the call. now (nanoseconds of the
// caller's clock) is kept as the time of activity when anything was read.
// io.EOF: the peer closed. Any error means that the caller must Close. fn may
// close c, which ends the call with net.ErrClosed.
func (c *TCPConn) ReadFrames(now int64, fn func(c *TCPConn, frame []byte)) error {
	for total := 0; total < readLimit; {
		if c.closed {
			return errClosed(c.remote)
		}
		space := c.framer.Space()
		n, err := sysRead(c.fd, space)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			return nil
		case err != nil:
			return fmt.Errorf("read from tcp %s: %w", c.remote, err)
		case n == 0:
			return io.EOF
		}
		c.active = now
		c.framer.Filled(n)
		if err := c.deliver(fn); err != nil {
			return err
		}
		if n < len(space) {
			return nil
		}
		total += n
	}
	return nil
}

// deliver calls fn for the frames that are whole.
func (c *TCPConn) deliver(fn func(c *TCPConn, frame []byte)) error {
	count := c.listener.opts.Counters
	for {
		frame, ok, err := c.framer.Next()
		if err != nil {
			count.BadFrames++
			return fmt.Errorf("tcp %s: %w", c.remote, err)
		}
		if !ok {
			return nil
		}
		count.ReceivedFrames++
		count.ReceivedBytes += uint64(len(frame))
		fn(c, frame)
		if c.closed {
			return errClosed(c.remote)
		}
	}
}

// WriteFrame is WriteFrames for one packet.
func (c *TCPConn) WriteFrame(packet []byte) error {
	one := &c.listener.vec.one
	one[0] = packet
	return c.WriteFrames(one[:])
}

// WriteFrames sends the packets, one frame each, or queues copies of what the
// socket does not take now; the poller then watches for room by itself. A full
// queue drops the oldest frames and counts them. An error means that the caller
// must Close.
func (c *TCPConn) WriteFrames(packets [][]byte) error {
	if c.closed {
		return errClosed(c.remote)
	}
	for len(packets) > 0 && c.queue.len() == 0 {
		now := packets[:min(len(packets), MaxPackets)]
		if !c.fits(now) {
			break
		}
		packets = packets[len(now):]
		if err := c.writeNow(now); err != nil {
			return err
		}
	}
	for _, p := range packets {
		c.enqueue(p, 0)
	}
	return nil
}

// fits reports whether all packets may be framed.
func (c *TCPConn) fits(packets [][]byte) bool {
	for _, p := range packets {
		if len(p) > c.listener.opts.MaxFrame {
			return false
		}
	}
	return true
}

// writeNow sends up to MaxPackets frames in one call and queues the rest.
func (c *TCPConn) writeNow(packets [][]byte) error {
	v := &c.listener.vec
	bufs := v.bufs[:0]
	for i, p := range packets {
		binary.BigEndian.PutUint16(v.headers[i][:], uint16(len(p)))
		bufs = append(bufs, v.headers[i][:], p)
	}
	n, err := v.send(c.fd, bufs)
	if err != nil {
		return fmt.Errorf("write to tcp %s: %w", c.remote, err)
	}
	c.listener.opts.Counters.SentBytes += uint64(n)
	for _, p := range packets {
		size := frameHeader + len(p)
		if n >= size {
			c.listener.opts.Counters.SentFrames++
		} else {
			c.enqueue(p, n)
		}
		n = max(n-size, 0)
	}
	return nil
}

// enqueue keeps a frame for later, all but its first skip bytes.
func (c *TCPConn) enqueue(packet []byte, skip int) {
	opts := &c.listener.opts
	if len(packet) > opts.MaxFrame {
		opts.Counters.DroppedFrames++
		return
	}
	empty := c.queue.len() == 0
	opts.Counters.DroppedFrames += uint64(c.queue.push(packet, skip, opts.QueueBytes))
	if empty && c.poller != nil {
		c.poller.watchConnWrite(c, true)
	}
}

// Flush sends queued frames; call it when the connection is writable. An error
// means that the caller must Close.
func (c *TCPConn) Flush() error {
	if c.closed {
		return errClosed(c.remote)
	}
	if c.queue.len() == 0 {
		return nil
	}
	v := &c.listener.vec
	n, err := v.send(c.fd, append(v.bufs[:0], c.queue.bytes()))
	if err != nil {
		return fmt.Errorf("write to tcp %s: %w", c.remote, err)
	}
	c.listener.opts.Counters.SentBytes += uint64(n)
	c.listener.opts.Counters.SentFrames += uint64(c.queue.sent(n))
	if c.queue.len() == 0 && c.poller != nil {
		c.poller.watchConnWrite(c, false)
	}
	return nil
}

// Close closes the connection and takes it out of its Poller; repeated calls do
// nothing.
func (c *TCPConn) Close() error {
	if c.closed {
		return nil
	}
	c.closed = true
	if c.poller != nil {
		c.poller.removeConn(c)
	}
	c.listener.forget()
	c.queue = frameQueue{}
	return unix.Close(c.fd)
}
