package rtc

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/worker/netio"
)

const (
	// acceptsPerEvent bounds the connections taken in one turn from one listener.
	acceptsPerEvent = 16
	// unprovenFor is how long a TCP connection may stay without a valid check.
	unprovenFor = 10 * time.Second
	// maxUnproven and maxUnprovenPerSource bound the connections without a valid check, in
	// all and of one IPv4 address or IPv6 /64. Past them the oldest one makes room. A client
	// shows its check within milliseconds of connecting, so that a flood must be very fast
	// to push it out before.
	maxUnproven          = 1024
	maxUnprovenPerSource = 256
)

// tcpPeer is an accepted TCP connection.
type tcpPeer struct {
	conn   *netio.TCPConn
	tuple  *tuple // nil: no valid check, or none that counts any more
	since  instant
	index  int // in tcpPeers.all
	source netip.Addr

	older, newer *tcpPeer // among the unproven
}

// tcpPeers are the open TCP connections. Those whose client has shown a valid check
// count against the total alone: many clients may share one address (a school, a proxy,
// a tunnel).
type tcpPeers struct {
	all []*tcpPeer
	// The unproven, in the order of their age.
	oldest, newest *tcpPeer
	unproven       int
	perSource      map[netip.Addr]int
	refused        uint64 // closed because of a limit
}

func newTCPPeers() tcpPeers { return tcpPeers{perSource: map[netip.Addr]int{}} }

// add takes a new connection, which is unproven.
func (p *tcpPeers) add(conn *netio.TCPConn, now instant) *tcpPeer {
	peer := &tcpPeer{conn: conn, index: len(p.all), source: conn.Source()}
	p.all = append(p.all, peer)
	p.doubt(peer, now)
	return peer
}

// doubt puts a connection among the unproven.
func (p *tcpPeers) doubt(peer *tcpPeer, now instant) {
	peer.since = now
	if peer.older = p.newest; p.newest != nil {
		p.newest.newer = peer
	} else {
		p.oldest = peer
	}
	p.newest = peer
	p.unproven++
	p.perSource[peer.source]++
}

// prove takes a connection from the unproven.
func (p *tcpPeers) prove(peer *tcpPeer) {
	if peer.older != nil {
		peer.older.newer = peer.newer
	} else {
		p.oldest = peer.newer
	}
	if peer.newer != nil {
		peer.newer.older = peer.older
	} else {
		p.newest = peer.older
	}
	peer.older, peer.newer = nil, nil
	p.unproven--
	if p.perSource[peer.source]--; p.perSource[peer.source] == 0 {
		delete(p.perSource, peer.source)
	}
}

// remove forgets a connection, which is unproven.
func (p *tcpPeers) remove(peer *tcpPeer) {
	p.prove(peer)
	last := len(p.all) - 1
	p.all[peer.index] = p.all[last]
	p.all[peer.index].index = peer.index
	p.all[last] = nil
	p.all = p.all[:last]
}

// surplus is the unproven connection that must make room for a new one of the source;
// nil: there is room. full: there is none, and nobody who could make it.
func (p *tcpPeers) surplus(source netip.Addr, limit int) (peer *tcpPeer, full bool) {
	if p.perSource[source] >= maxUnprovenPerSource {
		peer = p.oldest
		for peer.source != source {
			peer = peer.newer
		}
		return peer, false
	}
	if p.unproven >= maxUnproven || len(p.all) >= limit {
		return p.oldest, p.oldest == nil
	}
	return nil, false
}

// readTCP serves the ready connections and listeners. The connections come first: a
// check that waits to be read keeps its connection from making room.
func (l *Loop) readTCP() {
	events, err := l.poller.TCPEvents()
	if err != nil {
		l.log.Warn("tcp events", obs.Err(err))
		return
	}
	for _, e := range events {
		if e.Conn == nil {
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
		if e.Readable {
			l.readPeer(peer)
		}
	}
	for _, e := range events {
		if e.Listener != nil {
			l.accept(e.Listener)
		}
	}
}

// readPeer reads what a connection has.
func (l *Loop) readPeer(peer *tcpPeer) {
	if peer.conn.ReadFrames(int64(l.now), l.frameFn) != nil && !peer.conn.Closed() {
		l.closePeer(peer)
	}
}

// accept takes what waits on a listener. One that cannot be accepted from rests until
// the next sweep: it would stay readable, and the loop would spin.
func (l *Loop) accept(listener *netio.TCPListener) {
	for range acceptsPerEvent {
		conn, err := listener.Accept(int64(l.now))
		if err != nil {
			l.log.Warn("tcp accept", obs.Err(errors.Join(err, l.poller.WatchListener(listener, false))))
			return
		}
		if conn == nil {
			return
		}
		if !l.makeRoomForConn(conn) || l.poller.AddConn(conn) != nil {
			l.peers.refused++
			_ = conn.Close()
			continue
		}
		conn.Owner = l.peers.add(conn, l.now)
	}
}

// makeRoomForConn closes the oldest unproven connections until a new one fits. What they
// have sent meanwhile is read first: it may prove one.
func (l *Loop) makeRoomForConn(conn *netio.TCPConn) bool {
	const tries = 16 // each proves or closes one
	for range tries {
		peer, full := l.peers.surplus(conn.Source(), l.cfg.Limits.TCPConnections)
		if peer == nil {
			return !full
		}
		l.readPeer(peer)
		if peer.tuple == nil && !peer.conn.Closed() {
			l.peers.refused++
			l.closePeer(peer)
		}
	}
	return false
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
	if peer.tuple != nil {
		l.disown(peer)
		l.peers.doubt(peer, l.now)
	}
	l.peers.remove(peer)
	_ = peer.conn.Close()
}

// sweepPeers closes connections that nobody owns and those that fell silent, and tries
// listeners that rest again.
func (l *Loop) sweepPeers() {
	// From the back: closing one moves the last into its place.
	for _, peer := range slices.Backward(l.peers.all) {
		silent := l.now - max(instant(peer.conn.LastActive()), l.standstill.ended)
		if peer.tuple == nil && l.now-peer.since >= instant(unprovenFor) || silent >= instant(l.cfg.ConsentTimeout) {
			l.closePeer(peer)
		}
	}
	for _, listener := range l.listeners {
		if err := l.poller.WatchListener(listener, true); err != nil {
			l.log.Warn("tcp listener", obs.Err(err))
		}
	}
}
