package rtc

import (
	"net/netip"

	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/worker/netio"
	"github.com/dspeak/sfu/worker/rtp"
)

// source is where a packet came from: a UDP path on one of the sockets, or a TCP
// connection.
type source struct {
	port  *udpPort
	addr  netip.AddrPort
	local netio.Local
	peer  *tcpPeer // nil: UDP
}

// readUDP takes one batch off a port's socket or the one aside of it.
func (l *Loop) readUDP(port *udpPort, sock netio.UDP) {
	n, err := sock.ReadBatch(port.batch)
	if err != nil {
		l.log.Warn("udp read", obs.Err(err))
		return
	}
	for i := range port.batch[:n] {
		m := &port.batch[i]
		l.count.received++
		src := source{port: port, addr: m.Addr, local: m.Local}
		l.onDatagram(m.Buf[:m.N], &src, l.arrival(m.ArrivalNanos))
	}
}

// arrival is when a datagram reached the kernel, on the loop's clock.
func (l *Loop) arrival(kernelNanos int64) instant {
	if kernelNanos == 0 {
		return l.now
	}
	// The wall clock may have been set meanwhile.
	if age := l.wall - kernelNanos; age > 0 && age < int64(l.oldest()) {
		return l.now - instant(age)
	}
	return l.now
}

// onDatagram tells the protocols apart (RFC 7983) and finds the path. b may be changed
// in place.
func (l *Loop) onDatagram(b []byte, src *source, at instant) {
	kind := rtp.Classify(b)
	if kind == rtp.KindSTUN {
		l.onSTUN(b, src)
		return
	}
	tu := l.pathOf(b, kind, src)
	if tu == nil {
		l.count.unknownSource++
		return
	}
	t := tu.transport
	l.take(t.router)
	t.count.received++
	t.count.bytesReceived += uint64(len(b))
	switch kind {
	case rtp.KindRTP:
		l.onRTP(tu, b, at)
	case rtp.KindRTCP:
		l.onRTCP(tu, b, at)
	case rtp.KindDTLS:
		l.onDTLS(tu, b)
	default:
		t.count.discarded++
	}
}

// pathOf finds the path that a check validated; nil: none did.
func (l *Loop) pathOf(b []byte, kind rtp.Kind, src *source) *tuple {
	if src.peer != nil {
		return src.peer.tuple
	}
	c := l.table.tuples[src.key()]
	if c.former == nil {
		return c.owner
	}
	if c.former.transport.wants(b, kind) && !c.owner.transport.wants(b, kind) {
		return c.former
	}
	return c.owner
}

// wants says whether a packet looks like one of this transport's own. It only
// decides between two transports that validated the same address.
func (t *transport) wants(b []byte, kind rtp.Kind) bool {
	switch kind {
	case rtp.KindRTP:
		var h rtp.Header
		return t.srtp.in != nil && rtp.Parse(b, &h) == nil && t.producerFor(&h) != nil
	case rtp.KindRTCP:
		return t.srtp.in != nil && t.srtp.claims(b)
	case rtp.KindDTLS:
		return t.dtls.state == DtlsNew || t.dtls.state == DtlsConnecting || b[0] == recordAlert
	default:
		return false
	}
}
