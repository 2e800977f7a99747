package rtc

import (
	"errors"
	"net/netip"
	"time"

	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/worker/netio"
)

const (
	// maxPending is how many packets a transport collects before all is flushed;
	// one UDP_SEGMENT send holds no more.
	maxPending = netio.MaxPackets
	// maxReplies is the same for answers to STUN requests, which go to their source.
	maxReplies = 64
	// maxPacket is the largest packet sent, protection included. It bounds what the
	// ring gives out at once and fits packetRef.
	maxPacket = 2048
	// releaseAfter is the silence after which the ring's pages are given back, once
	// releaseBytes of it were written.
	releaseAfter = 5 * time.Second
	releaseBytes = 64 << 10
)

// pendingPackets are the packets of one transport that wait for the next flush.
type pendingPackets struct {
	refs *[maxPending]packetRef // nil while there are none: most transports are silent
	n    int
}

// outbox collects what is to be sent: per transport, so that packets to one
// destination leave together.
type outbox struct {
	ring     *sendRing
	padTo    int                      // payloads are padded to a multiple of it; 0 or 1: they are not
	dirty    []*transport             // with pending packets
	spare    []*[maxPending]packetRef // room for those of other transports
	first    int                      // of dirty, where the next flush begins; see flush
	replies  [maxReplies]reply
	nReply   int
	due      instant // when to flush; 0: nothing waits
	since    uint64  // ring position of the oldest packet that waits
	released uint64  // ring position of the last release of its pages
}

// reply is a packet to an address that no transport need have selected.
type reply struct {
	transport *transport
	port      *udpPort
	addr      netip.AddrPort
	local     netio.Local
	ref       packetRef
}

// slot returns room in the ring for a packet of at most n bytes.
func (l *Loop) slot(n int) []byte {
	if l.out.ring.room(l.out.since) < 4*maxPacket {
		l.flush()
		l.makeRoom()
	}
	return l.out.ring.reserve(n)
}

// push queues a packet of the ring for its transport.
func (l *Loop) push(t *transport, ref packetRef, size int) {
	if t.ice.selected == nil {
		t.count.dropped++
		l.count.dropped++
		return
	}
	p := &t.pending
	if p.n == maxPending {
		l.flush()
	}
	if p.n == 0 {
		l.out.dirty = append(l.out.dirty, t)
		p.refs = l.out.takeRoom()
	}
	p.refs[p.n] = ref
	p.n++
	t.count.sent++
	t.count.bytesSent += uint64(size)
	if l.out.due == 0 {
		l.out.due = l.now + instant(l.pace.wait())
	}
}

// send copies b and queues it for the transport's selected path.
func (l *Loop) send(t *transport, b []byte) {
	if len(b) > maxPacket {
		t.count.dropped++
		return
	}
	n := copy(l.slot(len(b)), b)
	l.push(t, l.out.ring.commit(n), n)
}

// reply copies b and queues it for the source of a request.
func (l *Loop) reply(t *transport, src *source, b []byte) {
	t.count.sent++
	t.count.bytesSent += uint64(len(b))
	l.count.sent++
	if len(b) > maxPacket {
		l.countDropped(t, 1)
		return
	}
	if src.peer != nil {
		if src.peer.conn.WriteFrame(b) != nil {
			t.count.dropped++
		}
		return
	}
	if l.out.nReply == maxReplies {
		l.flush()
	}
	n := copy(l.slot(len(b)), b)
	l.out.replies[l.out.nReply] = reply{transport: t, port: src.port, addr: src.addr, local: src.local, ref: l.out.ring.commit(n)}
	l.out.nReply++
	l.out.due = l.now
}

// flushIfDue flushes when the packets have waited long enough.
func (l *Loop) flushIfDue() {
	if l.out.due != 0 && l.now >= l.out.due {
		l.flush()
	}
}

// flush hands everything that waits to the sockets: replies before media, and media
// from another transport on each time, so that a socket that takes only a part of it
// does not leave out the same receivers again and again.
func (l *Loop) flush() {
	o := &l.out
	for i := range o.replies[:o.nReply] {
		r := &o.replies[i]
		r.port.urgent.add(queued{transport: r.transport, at: l.now}, r.addr, r.local, o.ring, []packetRef{r.ref})
		*r = reply{}
	}
	o.nReply = 0
	if n := len(o.dirty); n > 0 {
		o.first = (o.first + 1) % n
		for _, t := range o.dirty[o.first:] {
			l.collect(t)
		}
		for _, t := range o.dirty[:o.first] {
			l.collect(t)
		}
		clear(o.dirty)
		o.dirty = o.dirty[:0]
	}
	o.due = 0
	for _, port := range l.udp {
		l.flushPort(port)
	}
	o.since = l.oldestWaiting()
}

// collect moves a transport's packets to the queue of its path.
func (l *Loop) collect(t *transport) {
	p := t.pending
	t.pending = pendingPackets{}
	l.queueAll(t, p.refs[:p.n])
	l.out.spare = append(l.out.spare, p.refs)
}

// takeRoom returns room for a transport's pending packets.
func (o *outbox) takeRoom() *[maxPending]packetRef {
	last := len(o.spare) - 1
	if last < 0 {
		return new([maxPending]packetRef)
	}
	room := o.spare[last]
	o.spare = o.spare[:last]
	return room
}

// queueAll queues packets for a transport's path. It may reorder refs.
func (l *Loop) queueAll(t *transport, refs []packetRef) {
	tu := t.ice.selected
	if tu == nil {
		l.countDropped(t, len(refs))
		return
	}
	l.count.sent += uint64(len(refs))
	if tu.peer != nil {
		l.collectTCP(t, tu.peer, refs)
		return
	}
	limit := tu.port.sock.MaxSegments()
	if limit > 1 {
		sortBySize(l.out.ring, refs)
	}
	for len(refs) > 0 {
		n := segmentRun(refs, limit)
		tu.port.media.add(queued{transport: t, at: l.now}, tu.addr, tu.named, l.out.ring, refs[:n])
		refs = refs[n:]
	}
}

// sortBySize puts larger packets first, equal ones as they were: any two packets
// then share a send, and packets of one size stand together. Which stream's packet
// arrives first does not matter to a receiver, but within a stream the order stays:
// a receiver would ask for what it takes for lost.
func sortBySize(ring *sendRing, refs []packetRef) {
	const sizeMask = 1<<refLenBits - 1
	for i := 1; i < len(refs); i++ {
		for j := i; j > 0 && refs[j]&sizeMask > refs[j-1]&sizeMask && !ring.sameStream(refs[j], refs[j-1]); j-- {
			refs[j], refs[j-1] = refs[j-1], refs[j]
		}
	}
}

// segmentRun is how many packets from the front may share one send: all of one
// size, only the last shorter (UDP_SEGMENT), and not too large together.
func segmentRun(refs []packetRef, limit int) int {
	const sizeMask = 1<<refLenBits - 1
	first := refs[0] & sizeMask
	n, total := 1, int(first)
	for n < len(refs) && n < limit {
		size := refs[n] & sizeMask
		if total += int(size); size > first || total > netio.MaxSendBytes {
			return n
		}
		n++
		if size < first {
			return n
		}
	}
	return n
}

// collectTCP writes to a connection; what its queue cannot hold is dropped there.
func (l *Loop) collectTCP(t *transport, peer *tcpPeer, refs []packetRef) {
	for _, ref := range refs {
		b := l.out.ring.packet(ref)
		if b == nil || peer.conn.Closed() {
			l.countDropped(t, 1)
			continue
		}
		if err := peer.conn.WriteFrame(b); err != nil {
			l.countDropped(t, 1)
			l.log.Debug("tcp write", transportAttr(t), obs.Err(err))
			l.closePeer(peer)
			return
		}
	}
}

// releaseBuffers gives the pages of the ring back while nobody is there to whom its
// packets could be sent, again or for the first time.
func (l *Loop) releaseBuffers() (bool, error) {
	if len(l.table.list) > 0 {
		return false, nil
	}
	l.flush()
	for _, port := range l.udp {
		l.dropWaiting(port)
	}
	l.out.since = l.out.ring.head
	_, err := l.ledger.Release()
	return true, errors.Join(releasePages(l.out.ring.buf), err)
}

// releaseSilent does the same in long silence: nobody asks for what was sent before,
// and answers to checks would walk through the whole ring.
func (l *Loop) releaseSilent() {
	o := &l.out
	if l.now-l.stirred < instant(releaseAfter) || o.ring.head-o.released < releaseBytes || !l.silent() {
		return
	}
	o.released, o.spare = o.ring.head, nil
	if err := releasePages(o.ring.buf); err != nil {
		l.log.Debug("log of sent packets is kept", obs.Err(err))
	}
}

// padding is how many bytes to add to a payload.
func (o *outbox) padding(payload int) int {
	if o.padTo <= 1 {
		return 0
	}
	return (o.padTo - payload%o.padTo) % o.padTo
}
