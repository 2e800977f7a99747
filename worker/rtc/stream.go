package rtc

import (
	"github.com/dspeak/sfu/worker/rtp"
)

// maxStreams bounds the incoming SSRCs that a transport remembers.
const maxStreams = 1024

// inStream is the earned state of one incoming SSRC. It belongs to the transport
// and outlives its producer: a client that produces again with the same SSRC goes
// on with the same key and rollover counter.
type inStream struct {
	ssrc      uint32
	started   bool    // a packet was authenticated
	highest   uint64  // highest authenticated extended sequence number
	lastSeen  instant // arrival of the last packet; 0: never
	reception rtp.Reception
	nacks     rtp.NackGenerator
	report    senderView
	level     levelMeter
}

// senderView is what a sender's reports (RFC 3550 section 6.4.1) told.
type senderView struct {
	ntp     uint64  // of the last report
	rtpTime uint32  // the same instant on the media clock
	at      instant // its arrival; 0: no report yet
}

// streamFor returns the state of an SSRC, making it if need be.
func (s *srtpState) streamFor(ssrc uint32) *inStream {
	for _, known := range s.streams {
		if known.ssrc == ssrc {
			return known
		}
	}
	if len(s.streams) >= maxStreams {
		s.streams = append(s.streams[:0], s.streams[1:]...)
	}
	fresh := &inStream{ssrc: ssrc}
	s.streams = append(s.streams, fresh)
	return fresh
}

// receive books an authenticated packet.
func (p *producer) receive(l *Loop, h *rtp.Header, index uint64, payloadBytes int, at instant) {
	s := p.stream
	if s.ssrc == 0 { // learnt by mid
		s = p.transport.srtp.streamFor(h.SSRC)
		p.stream = s
	}
	if !s.started || index > s.highest {
		s.highest = index
	}
	s.started = true
	s.lastSeen = at
	s.reception.Update(h.SequenceNumber, h.Timestamp, mediaTime(at, p.clockRate))
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
