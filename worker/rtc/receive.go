package rtc

import (
	"net/netip"

	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/worker/netio"
	"github.com/dspeak/sfu/worker/rtp"
)

// source is where a packet came from: a UDP address on one of the sockets, or a
// TCP connection.
type source struct {
	port *udpPort
	addr netip.AddrPort
	peer *tcpPeer // nil: UDP
}

// tupleKey names a remote UDP address as seen by one socket. It holds no pointer,
// which keeps its hash cheap.
type tupleKey struct {
	addr [16]byte
	port uint16
	sock uint16
}

func (s *source) key() tupleKey {
	return tupleKey{addr: s.addr.Addr().As16(), port: s.addr.Port(), sock: uint16(s.port.index)}
}

// claim says whose remote address it is. When a second transport proves that it
// owns the address (a port that a new client reuses, or a check with a forged
// source), the former owner stays beside it, and packets are told apart by what
// they are: a forged check must not silence anyone.
type claim struct {
	owner, former *transport
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
		src := source{port: port, addr: m.Addr}
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

// onDatagram tells the protocols apart (RFC 7983) and finds the transport. b may
// be changed in place.
func (l *Loop) onDatagram(b []byte, src *source, at instant) {
	kind := rtp.Classify(b)
	if kind == rtp.KindSTUN {
		l.onSTUN(b, src)
		return
	}
	t := l.ownerOf(b, kind, src)
	if t == nil {
		l.count.unknownSource++
		return
	}
	l.take(t.router)
	t.count.received++
	t.count.bytesReceived += uint64(len(b))
	switch kind {
	case rtp.KindRTP:
		l.onRTP(t, b, at)
	case rtp.KindRTCP:
		l.onRTCP(t, b, at)
	case rtp.KindDTLS:
		l.onDTLS(t, b)
	default:
		t.count.discarded++
	}
}

// ownerOf finds the transport that validated the source; nil: none did.
func (l *Loop) ownerOf(b []byte, kind rtp.Kind, src *source) *transport {
	if src.peer != nil {
		return src.peer.transport
	}
	c := l.table.tuples[src.key()]
	if c.former == nil {
		return c.owner
	}
	if c.former.wants(b, kind) && !c.owner.wants(b, kind) {
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

// tcpPeer is an accepted TCP connection. Nobody owns it before a valid check.
type tcpPeer struct {
	conn      *netio.TCPConn
	transport *transport // nil: no valid check yet
	since     instant
	index     int // in Loop.peers
}

// readTCP serves the ready listeners and connections.
func (l *Loop) readTCP() {
	events, err := l.poller.TCPEvents()
	if err != nil {
		l.log.Warn("tcp events", obs.Err(err))
		return
	}
	for _, e := range events {
		if e.Listener != nil {
			l.accept(e.Listener)
			continue
		}
		peer, ok := e.Conn.Owner.(*tcpPeer)
		if !ok || e.Conn.Closed() {
			continue
		}
		if e.Writable && e.Conn.Flush() != nil {
			l.closePeer(peer)
			continue
		}
		if e.Readable && e.Conn.ReadFrames(int64(l.now), l.frameFn) != nil && !e.Conn.Closed() {
			l.closePeer(peer)
		}
	}
}

// acceptsPerEvent bounds the connections taken in one turn from one listener.
const acceptsPerEvent = 16

func (l *Loop) accept(listener *netio.TCPListener) {
	for range acceptsPerEvent {
		conn, err := listener.Accept(int64(l.now))
		if err != nil {
			l.log.Warn("tcp accept", obs.Err(err))
			return
		}
		if conn == nil {
			return
		}
		if len(l.peers) >= l.cfg.Limits.TCPConnections || l.poller.AddConn(conn) != nil {
			_ = conn.Close()
			continue
		}
		peer := &tcpPeer{conn: conn, since: l.now, index: len(l.peers)}
		conn.Owner = peer
		l.peers = append(l.peers, peer)
	}
}

// onFrame handles one frame of a TCP connection (RFC 4571).
func (l *Loop) onFrame(c *netio.TCPConn, frame []byte) {
	peer, ok := c.Owner.(*tcpPeer)
	if !ok || len(frame) == 0 {
		return
	}
	l.count.received++
	src := source{addr: c.RemoteAddr(), peer: peer}
	l.onDatagram(frame, &src, l.now)
}

// closePeer closes a connection and forgets it.
func (l *Loop) closePeer(peer *tcpPeer) {
	if peer.transport != nil {
		peer.transport.ice.forgetPeer(peer)
		l.checkSelected(peer.transport)
		peer.transport = nil
	}
	last := len(l.peers) - 1
	l.peers[peer.index] = l.peers[last]
	l.peers[peer.index].index = peer.index
	l.peers[last] = nil
	l.peers = l.peers[:last]
	_ = peer.conn.Close()
}
