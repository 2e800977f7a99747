package load

import (
	"encoding/binary"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receive reads all that a transport's socket holds: the socket is told of once
// (edge-triggered), so nothing may be left.
func (e *engine) receive(t *transport) {
	for range maxDescriptors {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(t.fd), uintptr(unsafe.Pointer(&e.headers[0])),
			receiveBatch, unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EAGAIN {
			return
		}
		if errno != 0 {
			continue // an ICMP error of the peer's end, read once: the counts show it
		}
		for i := range int(n) {
			h := &e.headers[i]
			e.handle(t, e.arena[i][:h.length], arrival(e.control[i][:h.header.Controllen]))
			h.header.SetControllen(len(e.control[i]))
		}
		if n < receiveBatch {
			return
		}
	}
}

// arrival reads the kernel's SO_TIMESTAMPNS control message, in Unix nanoseconds.
func arrival(control []byte) int64 {
	if len(control) < unix.CmsgLen(16) {
		return time.Now().UnixNano()
	}
	data := control[unix.CmsgLen(0):]
	return int64(binary.NativeEndian.Uint64(data))*int64(time.Second) + int64(binary.NativeEndian.Uint64(data[8:]))
}

// handle sorts one datagram by its first byte (RFC 7983 section 7).
func (e *engine) handle(t *transport, datagram []byte, at int64) {
	switch {
	case t.floor:
		e.countFloor(datagram, at)
	case len(datagram) < 12:
		e.malformed++
	case datagram[0] < 4:
		t.answered(datagram)
	case datagram[0] >= 20 && datagram[0] < 64:
		if t.watch != nil && t.connectedNow() {
			t.watch.DTLS(datagram)
		}
		if t.handshake != nil {
			t.handshake.Feed(datagram)
		}
	case datagram[1] >= 192 && datagram[1] <= 223: // RFC 5761 section 4
		authentic := e.handleRTCP(t, datagram, at)
		if t.watch != nil {
			t.watch.RTCP(datagram, t.srtcpIndex(datagram), authentic)
		}
	case t.watch != nil:
		e.show(t, datagram, at)
	default:
		e.count(t, datagram, at)
	}
}

// count books one RTP packet by its clear header.
func (e *engine) count(t *transport, datagram []byte, at int64) {
	p := (*t.pairs.Load())[binary.BigEndian.Uint32(datagram[8:])]
	if p == nil {
		e.unknown++
		return
	}
	if p.reception.received%authenticateEvery == 0 && !e.authentic(t, datagram) {
		e.unauthenticated++
		return
	}
	timestamp := binary.BigEndian.Uint32(datagram[4:])
	p.reception.packet(binary.BigEndian.Uint16(datagram[2:]), timestamp, at)
	slot, ok := p.speaker.slot(timestamp)
	round, i, counted := e.windows.place(slot)
	if !ok || !counted {
		return // of the warm-up
	}
	if !p.mark(i) {
		p.duplicate++
		return
	}
	p.delivered++
	tally := &e.tallies[round]
	tally.delivered++
	tally.bytes += uint64(len(datagram))
	tally.latency.add(time.Duration(at - p.speaker.sentAt[i].Load()))
}

// show gives one RTP packet to the transport's watch.
func (e *engine) show(t *transport, datagram []byte, at int64) {
	authentic := e.authentic(t, datagram)
	if p := (*t.pairs.Load())[binary.BigEndian.Uint32(datagram[8:])]; p != nil && authentic {
		p.reception.packet(binary.BigEndian.Uint16(datagram[2:]), binary.BigEndian.Uint32(datagram[4:]), at)
	}
	t.watch.RTP(datagram, authentic, at)
}

// srtcpIndex reads the index of a protected RTCP packet: its last 31 bits under
// AES-GCM (RFC 7714 section 9.2), before the tag otherwise (RFC 3711 section 3.4).
func (t *transport) srtcpIndex(datagram []byte) uint32 {
	end := len(datagram) - t.trailer
	if end < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(datagram[end-4:]) &^ (1 << 31)
}

// countFloor books one packet of the bare sending loop.
func (e *engine) countFloor(datagram []byte, at int64) {
	round := e.windows.round()
	if round < 0 || len(datagram) < floorMinimum {
		e.malformed++
		return
	}
	tally := &e.tallies[round]
	tally.floorDelivered++
	tally.floorLatency.add(time.Duration(at - int64(binary.NativeEndian.Uint64(datagram))))
}

// authentic checks the SRTP protection of one packet.
func (e *engine) authentic(t *transport, datagram []byte) bool {
	if !t.connectedNow() {
		return false
	}
	_, err := t.incoming.DecryptRTP(e.plain[:0], datagram, &t.header)
	if err == nil {
		e.authenticated++
	}
	return err == nil
}
