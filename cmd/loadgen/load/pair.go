package load

import "sync/atomic"

// rtpClock is the RTP clock rate of Opus (RFC 7587 section 4.1).
const rtpClock = 48000

// speaker is the sending side of a user. The pacer writes it; the engine reads
// the send times.
type speaker struct {
	transport *transport
	ssrc      uint32
	// name is the user's, the CNAME of RTCP.
	name string
	// hearers is how many users hear the speaker.
	hearers int
	// sequence is the RTP sequence number of the next packet, owned by the pacer.
	sequence uint16
	// packets and octets were sent, reportAt is the slot in which the next sender
	// report is due; owned by the pacer.
	packets, octets uint32
	reportAt        int64
	// firstTimestamp is the RTP timestamp of slot 0. The timestamp passes the
	// server unchanged, so it names the packet at the receiver.
	firstTimestamp uint32
	// step is the RTP timestamp's growth with each slot.
	step uint32
	// sentAt holds the sender's clock (Unix nanoseconds) of each counted slot; 0:
	// nothing was sent.
	sentAt []atomic.Int64
}

// slot returns which slot the RTP timestamp belongs to; false: to none.
func (s *speaker) slot(timestamp uint32) (int64, bool) {
	delta := timestamp - s.firstTimestamp
	return int64(delta / s.step), delta%s.step == 0
}

// pair is one speaker heard by one user, owned by the engine once registered.
type pair struct {
	speaker *speaker
	// seen has one bit for each counted slot of the speaker.
	seen      []uint64
	delivered uint64
	duplicate uint64
	reception reception
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
