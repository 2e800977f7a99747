package rtc

import (
	"slices"
	"time"

	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/rtp"
)

const (
	// spareStreams is how many incoming SSRCs a transport remembers beside those of its
	// producers and one for each consumer. Firefox reports on every consumer from an SSRC
	// of its own, and an unmute brings a new producer.
	spareStreams = 64
	// maxForgotten bounds the SSRCs of which only their numbers are remembered.
	maxForgotten = 1024
)

// inStream is the earned state of one incoming SSRC. It belongs to the transport
// and outlives its producer: a client that produces again with the same SSRC goes
// on with the same key and rollover counter. What a successor needs is in rec alone.
type inStream struct {
	ssrc  uint32  // 0: not learnt yet
	heard instant // when its last RTCP packet came; that of RTP is in rec
	rec   *ledger.Stream
	nacks rtp.NackGenerator
	level levelMeter
}

// lastHeard is when the last packet came, as far as this process knows: a predecessor told
// of RTP alone.
func (s *inStream) lastHeard() instant { return max(s.heard, instant(s.rec.LastSeen)) }

// forgotten is what stays of an SSRC that made room for another. All its packets up to
// these numbers count as seen, so that none can be replayed. The list is the process's own
// and bounded: a replay beyond it, or on a successor, is a report or a request of an SSRC
// that fell silent. It can change figures of a consumer until the next report, or have
// packets of the last second sent again, identical and within the consumer's limit; and
// nothing where it is on a consumer that was closed, whose SSRC never returns. RTP of a
// forgotten SSRC is discarded unless the client produces with that SSRC again.
type forgotten struct {
	ssrc      uint32
	rtp, rtcp uint64 // highest number plus one; 0: none
}

// unlearnt stands for a stream whose SSRC is not known yet.
func unlearnt() *inStream { return &inStream{rec: &ledger.Stream{}} }

// lookup returns the state of an SSRC, nil when there is none.
func (s *srtpState) lookup(ssrc uint32) *inStream {
	for _, known := range s.streams {
		if known.ssrc == ssrc {
			return known
		}
	}
	return nil
}

// streamFor returns the state of an SSRC, making it if need be. Without room in the
// ledger it is an errs.ErrExhausted.
func (l *Loop) streamFor(t *transport, ssrc uint32) (*inStream, error) {
	if known := t.srtp.lookup(ssrc); known != nil {
		return known, nil
	}
	for len(t.srtp.streams) >= t.maxStreams() {
		if !l.forgetStream(t) {
			break
		}
	}
	rec, err := l.ledger.Streams.New()
	if err != nil {
		return nil, err
	}
	rec.Transport, rec.SSRC = t.rec.Ref(), ssrc
	t.srtp.remind(rec)
	l.ledger.Streams.Commit(rec)
	return t.srtp.addStream(rec), nil
}

// maxStreams bounds the incoming SSRCs that a transport remembers.
func (t *transport) maxStreams() int { return spareStreams + len(t.producers) + len(t.consumers) }

// addStream puts a stream of the ledger in its place.
func (s *srtpState) addStream(rec *ledger.Stream) *inStream {
	fresh := s.room.take()
	*fresh = inStream{ssrc: rec.SSRC, rec: rec}
	s.streams = append(s.streams, fresh)
	return fresh
}

// forgetStream forgets the SSRC that has been silent for longest, of those that no
// producer uses. It reports whether there was one.
func (l *Loop) forgetStream(t *transport) bool {
	oldest := -1
	for i, s := range t.srtp.streams {
		if (oldest < 0 || s.lastHeard() < t.srtp.streams[oldest].lastHeard()) && !t.produces(s) {
			oldest = i
		}
	}
	if oldest < 0 {
		return false
	}
	rec := t.srtp.streams[oldest].rec
	if rec.RTP.Started() || rec.RTCP.Started() {
		if len(t.srtp.forgotten) == maxForgotten {
			t.srtp.forgotten = slices.Delete(t.srtp.forgotten, 0, maxForgotten/4) // the oldest, not one at a time
		}
		t.srtp.forgotten = append(t.srtp.forgotten, forgotten{ssrc: rec.SSRC, rtp: rec.RTP.Next(), rtcp: rec.RTCP.Next()})
	}
	l.ledger.Streams.Free(rec)
	t.srtp.streams = slices.Delete(t.srtp.streams, oldest, oldest+1)
	return true
}

// recall returns what stayed of a forgotten SSRC, and its place; -1: nothing.
func (s *srtpState) recall(ssrc uint32) (forgotten, int) {
	for i, f := range s.forgotten {
		if f.ssrc == ssrc {
			return f, i
		}
	}
	return forgotten{}, -1
}

// remind gives the new record of an SSRC what stayed of it.
func (s *srtpState) remind(rec *ledger.Stream) {
	f, at := s.recall(rec.SSRC)
	if at < 0 {
		return
	}
	rec.RTP.SeenBelow(f.rtp)
	rec.RTCP.SeenBelow(f.rtcp)
	s.forgotten = slices.Delete(s.forgotten, at, at+1)
}

func (t *transport) produces(s *inStream) bool {
	return slices.ContainsFunc(t.producers, func(p *producer) bool { return p.stream == s })
}

// receive books an authenticated packet.
func (p *producer) receive(l *Loop, h *rtp.Header, payloadBytes int, at instant) {
	s := p.stream
	s.rec.LastSeen = int64(at)
	s.rec.Reception.Update(h.SequenceNumber, h.Timestamp, mediaTime(at, p.clockRate))
	p.packets++
	p.bytes += uint64(payloadBytes)
	if v := p.levelOf(h); v != nil {
		s.level.add(v[0], at)
	}
	p.feedback(l, h, at)
}

// levelOf returns the audio-level element of a packet, nil without one.
func (p *producer) levelOf(h *rtp.Header) []byte {
	if p.levelID == 0 {
		return nil
	}
	if v := h.Extension(p.levelID); len(v) > 0 {
		return v
	}
	return nil
}

// mediaTime converts a loop time to units of a media clock; it wraps.
func mediaTime(at instant, clockRate uint32) uint32 {
	us := uint64(at) / 1000
	return uint32(us * (uint64(clockRate) / 100) / 1e4)
}

// levelMeter smooths RFC 6464 levels.
type levelMeter struct {
	smooth float64 // dBov, -127 to 0
	last   int32   // dBov of the last packet
	at     instant // of the last packet; 0: never
}

// levelGain is the weight of a packet: about 100 ms at 20 ms frames.
const levelGain = 0.2

// levelLife is how long a level stands without another packet. It outlives one lost
// packet of a client that is silent: with DTX one comes every 400 ms.
const levelLife = 900 * time.Millisecond

// fresh reports whether the level is one of now.
func (m *levelMeter) fresh(now instant) bool { return m.at != 0 && now-m.at < instant(levelLife) }

// add takes the element's byte: the voice flag, and the level as -dBov in seven bits.
func (m *levelMeter) add(b byte, at instant) {
	m.last = -int32(b & 0x7f)
	stood := m.fresh(at)
	if m.at = at; !stood { // nothing of a former utterance
		m.smooth = float64(m.last)
		return
	}
	m.smooth += levelGain * (float64(m.last) - m.smooth)
}
