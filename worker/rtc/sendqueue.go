package rtc

import (
	"errors"
	"net/netip"
	"time"

	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/worker/netio"
)

const (
	// blockedFor is how long a full socket may hold packets back before they are dropped:
	// late audio is lost audio.
	blockedFor = 40 * time.Millisecond
	// maxBacklog bounds the sends that wait for a full socket.
	maxBacklog = 4096
)

// sendQueue is what one UDP socket has been given but the kernel has not taken, the
// oldest first. The slices are reused; they are empty after a flush unless the socket
// is full.
type sendQueue struct {
	sends   []netio.Send
	entries []queued // beside sends
	packets [][]byte // backing of sends
	next    int      // sends before it are done
}

// queued is whose send it is, since when it waits, and where in the ring it begins.
type queued struct {
	transport *transport
	at        instant
	position  uint64
}

// add appends one send.
func (q *sendQueue) add(e queued, addr netip.AddrPort, local netio.Local, ring *sendRing, refs []packetRef) {
	start := len(q.packets)
	e.position = refs[0].position()
	for _, ref := range refs {
		q.packets = append(q.packets, ring.packet(ref))
		e.position = min(e.position, ref.position())
	}
	packets := q.packets[start:]
	q.sends = append(q.sends, netio.Send{Addr: addr, Local: local, Packets: packets, SegmentSize: len(packets[0])})
	q.entries = append(q.entries, e)
}

func (q *sendQueue) waiting() int { return len(q.sends) - q.next }

// reset empties a queue whose sends are done or given up.
func (q *sendQueue) reset() {
	clear(q.entries)
	q.sends, q.entries, q.packets = q.sends[:0], q.entries[:0], q.packets[:0]
	q.next = 0
}

// release lets go of the slices that a burst has grown.
func (q *sendQueue) release() {
	if len(q.sends) == 0 && cap(q.sends) > maxBacklog {
		q.sends, q.entries, q.packets = nil, nil, nil
	}
}

// flushPort writes a socket's queues, the urgent one first. A full socket keeps the
// rest for a moment.
func (l *Loop) flushPort(port *udpPort) {
	urgentFull, mediaFull := l.flushQueue(port, &port.urgent), l.flushQueue(port, &port.media)
	if full := urgentFull || mediaFull; full != port.full {
		port.full = full
		l.poller.WatchWrite(port.index, full)
	}
}

// flushQueue writes a queue and says whether the socket was full before its end. What
// has waited too long by then is dropped, the oldest first.
func (l *Loop) flushQueue(port *udpPort, q *sendQueue) (full bool) {
	if q.waiting() == 0 {
		return false
	}
	n, err := port.sock.WriteBatch(q.sends[q.next:])
	q.next += n
	if err != nil && !errors.Is(err, netio.ErrWouldBlock) {
		l.log.Warn("udp write", obs.Err(err))
		l.dropOldest(q, q.waiting())
	}
	for q.waiting() > 0 && l.now-q.entries[q.next].at >= instant(blockedFor) {
		l.dropOldest(q, 1)
	}
	if n := q.waiting() - maxBacklog; n > 0 {
		l.dropOldest(q, n)
	}
	if q.waiting() == 0 {
		q.reset()
	}
	return errors.Is(err, netio.ErrWouldBlock)
}

// dropOldest gives up the n oldest sends.
func (l *Loop) dropOldest(q *sendQueue, n int) {
	for range n {
		l.countDropped(q.entries[q.next].transport, len(q.sends[q.next].Packets))
		q.next++
	}
}

// dropWaiting gives up everything that waits for a socket.
func (l *Loop) dropWaiting(port *udpPort) {
	for _, q := range []*sendQueue{&port.urgent, &port.media} {
		l.dropOldest(q, q.waiting())
		q.reset()
	}
	if port.full {
		port.full = false
		l.poller.WatchWrite(port.index, false)
	}
}

// makeRoom gives up the oldest of what waits for full sockets until the ring can take
// a packet without overwriting the rest.
func (l *Loop) makeRoom() {
	for l.out.ring.room(l.out.since) < 4*maxPacket {
		var oldest *sendQueue
		for _, port := range l.udp {
			for _, q := range []*sendQueue{&port.urgent, &port.media} {
				if q.waiting() > 0 && (oldest == nil || q.entries[q.next].position < oldest.entries[oldest.next].position) {
					oldest = q
				}
			}
		}
		if oldest == nil {
			l.out.since = l.out.ring.head
			return
		}
		l.dropOldest(oldest, 1)
		if oldest.waiting() == 0 {
			oldest.reset()
		}
		l.out.since = l.oldestWaiting()
	}
}

// oldestWaiting is the ring position of the oldest packet that waits for a socket, that
// of the next packet if none does.
func (l *Loop) oldestWaiting() uint64 {
	since := l.out.ring.head
	for _, port := range l.udp {
		for _, q := range []*sendQueue{&port.urgent, &port.media} {
			// Packets of one send stand close together, and so do sends of one flush, but not
			// in the order of the ring: the oldest send's neighbours count, too.
			for i := q.next; i < len(q.entries) && q.entries[i].at == q.entries[q.next].at; i++ {
				since = min(since, q.entries[i].position)
			}
		}
	}
	return since
}

func (l *Loop) countDropped(t *transport, n int) {
	t.count.dropped += uint64(n)
	l.count.dropped += uint64(n)
}
