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
	// blockedFor is how long a full socket may hold packets back before they are dropped:
	// late audio is lost audio.
	blockedFor = 40 * time.Millisecond
	// maxBacklog bounds the sends that wait for a full socket.
	maxBacklog = 4096
)

// pendingPackets are the packets of one transport that wait for the next flush.
type pendingPackets struct {
	refs [maxPending]packetRef
	n    int
}

// outbox collects what is to be sent: per transport, so that packets to one
// destination leave together.
type outbox struct {
	ring    *sendRing
	padTo   int          // payloads are padded to a multiple of it; 0 or 1: they are not
	dirty   []*transport // with pending packets
	replies [maxReplies]reply
	nReply  int
	due     instant // when to flush; 0: nothing waits
	since   uint64  // ring position of the oldest packet that waits
}

// reply is a packet to an address that no transport need have selected.
type reply struct {
	transport *transport
	port      *udpPort
	addr      netip.AddrPort
	ref       packetRef
}

// sendQueue is what one UDP socket has been given but the kernel has not taken.
// The slices are reused; they are empty after a flush unless the socket is full.
type sendQueue struct {
	sends   []netio.Send
	owners  []*transport // beside sends
	packets [][]byte     // backing of sends
	next    int          // sends before it are done
	blocked instant      // since when the socket is full; 0: it is not
}

// slot returns room in the ring for a packet of at most n bytes.
func (l *Loop) slot(n int) []byte {
	if l.out.ring.room(l.out.since) < 4*maxPacket {
		l.flush()
		if l.out.ring.room(l.out.since) < 4*maxPacket {
			l.dropBacklog()
		}
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
	l.out.replies[l.out.nReply] = reply{transport: t, port: src.port, addr: src.addr, ref: l.out.ring.commit(n)}
	l.out.nReply++
	l.out.due = l.now
}

// flushIfDue flushes when the packets have waited long enough.
func (l *Loop) flushIfDue() {
	if l.out.due != 0 && l.now >= l.out.due {
		l.flush()
	}
}

// flush hands everything that waits to the sockets.
func (l *Loop) flush() {
	o := &l.out
	for i := range o.replies[:o.nReply] {
		r := &o.replies[i]
		r.port.queue.add(r.transport, r.addr, o.ring, []packetRef{r.ref})
		*r = reply{}
	}
	o.nReply = 0
	for i, t := range o.dirty {
		l.collect(t)
		o.dirty[i] = nil
	}
	o.dirty = o.dirty[:0]
	o.due = 0
	waiting := false
	for _, port := range l.udp {
		l.flushPort(port)
		waiting = waiting || port.queue.blocked != 0
	}
	if !waiting {
		o.since = o.ring.head
	}
}

// collect moves a transport's packets to the queue of its path.
func (l *Loop) collect(t *transport) {
	p := &t.pending
	refs := p.refs[:p.n]
	p.n = 0
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
		tu.port.queue.add(t, tu.addr, l.out.ring, refs[:n])
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

func (l *Loop) countDropped(t *transport, n int) {
	t.count.dropped += uint64(n)
	l.count.dropped += uint64(n)
}

// add appends one send.
func (q *sendQueue) add(t *transport, addr netip.AddrPort, ring *sendRing, refs []packetRef) {
	start := len(q.packets)
	for _, ref := range refs {
		q.packets = append(q.packets, ring.packet(ref))
	}
	packets := q.packets[start:]
	q.sends = append(q.sends, netio.Send{Addr: addr, Packets: packets, SegmentSize: len(packets[0])})
	q.owners = append(q.owners, t)
}

// flushPort writes a socket's queue. A full socket keeps the rest for a moment.
func (l *Loop) flushPort(port *udpPort) {
	q := &port.queue
	if len(q.sends) == q.next {
		return
	}
	n, err := port.sock.WriteBatch(q.sends[q.next:])
	q.next += n
	if q.next == len(q.sends) {
		l.resetQueue(port)
		return
	}
	switch {
	case err != nil && !errors.Is(err, netio.ErrWouldBlock):
		l.log.Warn("udp write", obs.Err(err))
		l.dropQueue(port)
	case q.blocked == 0:
		q.blocked = l.now
		l.poller.WatchWrite(port.index, true)
	case l.now-q.blocked >= instant(blockedFor) || len(q.sends)-q.next > maxBacklog:
		l.dropQueue(port)
	}
}

// dropQueue gives up what a full socket did not take.
func (l *Loop) dropQueue(port *udpPort) {
	q := &port.queue
	for i := q.next; i < len(q.sends); i++ {
		l.countDropped(q.owners[i], len(q.sends[i].Packets))
	}
	l.resetQueue(port)
}

// dropBacklog gives up everything that waits: the ring is about to overwrite it.
func (l *Loop) dropBacklog() {
	for _, port := range l.udp {
		l.dropQueue(port)
	}
	l.out.since = l.out.ring.head
}

func (l *Loop) resetQueue(port *udpPort) {
	q := &port.queue
	if q.blocked != 0 {
		q.blocked = 0
		l.poller.WatchWrite(port.index, false)
	}
	clear(q.owners)
	q.sends, q.owners, q.packets = q.sends[:0], q.owners[:0], q.packets[:0]
	q.next = 0
}

// releaseBuffers gives the pages of the ring back while nobody is there to whom its
// packets could be sent, again or for the first time.
func (l *Loop) releaseBuffers() (bool, error) {
	if len(l.table.list) > 0 {
		return false, nil
	}
	l.flush()
	l.dropBacklog()
	return true, releasePages(l.out.ring.buf)
}

// release lets go of the slices that a burst has grown.
func (q *sendQueue) release() {
	if len(q.sends) == 0 && cap(q.sends) > maxBacklog {
		q.sends, q.owners, q.packets = nil, nil, nil
	}
}

// padding is how many bytes to add to a payload.
func (o *outbox) padding(payload int) int {
	if o.padTo <= 1 {
		return 0
	}
	return (o.padTo - payload%o.padTo) % o.padTo
}
