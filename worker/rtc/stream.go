package rtc

import (
	"slices"

	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/rtp"
)

// maxStreams bounds the incoming SSRCs that a transport remembers.
const maxStreams = 1024

// inStream is the earned state of one incoming SSRC. It belongs to the transport
// and outlives its producer: a client that produces again with the same SSRC goes
// on with the same key and rollover counter. What a successor needs is in rec alone.
type inStream struct {
	ssrc  uint32 // 0: not learnt yet
	rec   *ledger.Stream
	nacks rtp.NackGenerator
	level levelMeter
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
	if len(t.srtp.streams) >= maxStreams {
		l.forgetStream(t)
	}
	rec, err := l.ledger.Streams.New()
	if err != nil {
		return nil, err
	}
	rec.Transport, rec.SSRC = t.rec.Ref(), ssrc
	l.ledger.Streams.Commit(rec)
	return t.srtp.addStream(rec), nil
}

// addStream puts a stream of the ledger in its place.
func (s *srtpState) addStream(rec *ledger.Stream) *inStream {
	fresh := s.room.take()
	*fresh = inStream{ssrc: rec.SSRC, rec: rec}
	s.streams = append(s.streams, fresh)
	return fresh
}

// forgetStream forgets the oldest SSRC that no producer uses, if it can one that sent
// no RTCP.
func (l *Loop) forgetStream(t *transport) {
	oldest := -1
	for i, s := range t.srtp.streams {
		if t.produces(s) {
			continue
		}
		if !s.rec.RTCP.Started() {
			oldest = i
			break
		}
		if oldest < 0 {
			oldest = i
		}
	}
	if oldest < 0 {
		return // more producers than are allowed
	}
	l.ledger.Streams.Free(t.srtp.streams[oldest].rec)
	t.srtp.streams = slices.Delete(t.srtp.streams, oldest, oldest+1)
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
		s.level.add(v[0])
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
	seen   bool
}

// levelGain is the weight of a packet: about 100 ms at 20 ms frames.
const levelGain = 0.2

// add takes the element's byte: the voice flag, and the level as -dBov in seven bits.
func (m *levelMeter) add(b byte) {
	m.last = -int32(b & 0x7f)
	if !m.seen {
		m.seen = true
		m.smooth = float64(m.last)
		return
	}
	m.smooth += levelGain * (float64(m.last) - m.smooth)
}
