package load

import "sync/atomic"

// rtpClock is the RTP clock rate of Opus (RFC 7587 section 4.1).
const rtpClock = 48000

// speaker is the sending side of a user. The pacer writes it; the engine reads
// the send times.
type speaker struct {
	transport *transport
	ssrc      uint32
	// firstTimestamp is the RTP timestamp of the packet with index 0. The
	// timestamp passes the server unchanged, so it names the packet at the receiver.
	firstTimestamp uint32
	// step is the RTP timestamp's growth with each packet.
	step uint32
	// sentAt holds the sender's clock (Unix nanoseconds) of each packet, by index.
	sentAt []atomic.Int64
}

// index returns which packet of the speaker bears the RTP timestamp.
func (s *speaker) index(timestamp uint32) (int, bool) {
	delta := timestamp - s.firstTimestamp
	i := int(delta / s.step)
	return i, delta%s.step == 0 && i < len(s.sentAt)
}

// pair is one speaker heard by one user, owned by the engine once registered.
type pair struct {
	speaker *speaker
	// seen has one bit for each packet of the speaker.
	seen      []uint64
	delivered uint64
	duplicate uint64
}

func newPair(s *speaker) *pair {
	return &pair{speaker: s, seen: make([]uint64, (len(s.sentAt)+63)/64)}
}

// mark records packet i and says whether it is the first of its kind.
func (p *pair) mark(i int) bool {
	word, bit := i/64, uint64(1)<<(i%64)
	if p.seen[word]&bit != 0 {
		return false
	}
	p.seen[word] |= bit
	return true
}
