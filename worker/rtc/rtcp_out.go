package rtc

import (
	"math/rand/v2"
	"time"

	"github.com/dspeak/sfu/worker/rtp"
)

const (
	// reportEvery is the mean time between two reports of a transport: the minimum of
	// RFC 3550 section 6.2, which is mediasoup's for audio, too. Each waits a
	// random 0.8 to 1.2 of it, so that transports do not report in step.
	reportEvery = 5 * time.Second
	// senderFor is how long after its last packet a consumer still counts as a
	// sender (RFC 3550 section 6.4: two intervals).
	senderFor = 2 * reportEvery
	// maxCompound bounds a compound packet, protection not included.
	maxCompound = 1200
	// maxReports is what one packet's count field can say (RFC 3550 section 6.4.1).
	maxReports = 31
	// nackRoundTrip is the time between two requests for one packet. The round trip
	// to a client that only sends is not known to us.
	nackRoundTrip = 100 * time.Millisecond
)

// reportState is what a transport needs for its RTCP.
type reportState struct {
	ssrc      uint32  // names us as a receiver
	next      instant // of the next reports
	feedback  *rtp.TransportCC
	mediaSSRC uint32 // of the stream that feedback was last recorded from
}

// scratch is room for what is built on the loop.
type scratch struct {
	header  rtp.Header
	stun    [256]byte
	rtcp    [2 * maxCompound]byte
	reports [maxReports]rtp.ReceptionReport
	missing [64]uint16
	byes    [maxReports]uint32
}

// scheduleReports begins a transport's RTCP.
func (l *Loop) scheduleReports(t *transport) {
	t.rtcp.ssrc = t.rec.RTCPSSRC
	t.rtcp.next = l.now + jittered()/2 // RFC 3550 section 6.2: the first one early
}

func jittered() instant {
	return instant(reportEvery*8/10 + rand.N(reportEvery*4/10)) //nolint:gosec // spreading needs no secrecy
}

// steadyWall is a loop time as Unix nanoseconds that never jump.
func (l *Loop) steadyWall(at instant) int64 { return l.base.UnixNano() + int64(at) }

// sweepRTCP sends the reports that are due, and feedback.
func (l *Loop) sweepRTCP(t *transport) {
	if l.now >= t.rtcp.next {
		t.rtcp.next = l.now + jittered()
		l.sendReports(t)
	}
	if fb := t.rtcp.feedback; fb != nil && fb.Pending() {
		b := fb.AppendFeedback(l.feedbackStart(t), t.rtcp.ssrc, t.rtcp.mediaSSRC)
		l.sendRTCP(t, b)
	}
	for _, p := range t.producers {
		if p.nack && p.stream.nacks.Pending() {
			l.askAgain(p)
		}
	}
}

// sendReports sends a receiver report on the producers and sender reports of the
// consumers, as few compounds as hold them.
func (l *Loop) sendReports(t *transport) {
	b := l.receiverReport(t)
	for _, c := range t.consumers {
		f := c.entry()
		if f.lastSent == 0 || l.now-f.lastSent > instant(senderFor) {
			continue
		}
		cname := c.producer.cname
		if size := 28 + 16 + len(cname); len(b)+size > maxCompound {
			l.sendRTCP(t, b)
			b = l.scratch.rtcp[:0]
		}
		b = rtp.AppendSenderReport(b, l.senderInfo(c, f), nil)
		b = rtp.AppendSourceDescription(b, c.ssrc, cname)
		c.rec.Packets, c.rec.Octets = f.packets, f.bytes
	}
	l.sendRTCP(t, b)
}

// receiverReport begins a compound with a report on the transport's producers;
// empty when nothing was received.
func (l *Loop) receiverReport(t *transport) []byte {
	n := 0
	for _, p := range t.producers {
		s := p.stream
		if !s.rec.RTP.Started() || n == maxReports {
			continue
		}
		rep := s.rec.Reception.Report(s.ssrc)
		if r := &s.rec.Report; r.At != 0 {
			rep.LastSenderReport = rtp.Middle32(r.NTP)
			rep.Delay = uint32((l.now - instant(r.At)) * 65536 / instant(time.Second))
		}
		l.scratch.reports[n] = rep
		n++
	}
	b := l.scratch.rtcp[:0]
	if n == 0 {
		return b
	}
	b = rtp.AppendReceiverReport(b, t.rtcp.ssrc, l.scratch.reports[:n])
	return rtp.AppendSourceDescription(b, t.rtcp.ssrc, l.cname)
}

// senderInfo tells where a consumer's media clock stands now. The producer's own
// reports say it exactly; before the first, the last packet does.
func (l *Loop) senderInfo(c *consumer, f *fanout) rtp.SenderInfo {
	clock := c.producer.clockRate
	info := rtp.SenderInfo{
		SSRC: c.ssrc, NTP: rtp.NTP(l.steadyWall(l.now)),
		Packets: uint32(f.packets), Octets: uint32(f.bytes),
		Timestamp: f.lastTime + mediaTime(l.now, clock) - mediaTime(f.lastSent, clock),
	}
	if r := &c.producer.stream.rec.Report; r.At != 0 {
		info.Timestamp = r.RTPTime + mediaTime(l.now, clock) - mediaTime(instant(r.At), clock)
	}
	return info
}

// feedback books a packet for NACKs and transport-wide feedback.
func (p *producer) feedback(l *Loop, h *rtp.Header, at instant) {
	if p.nack {
		p.stream.nacks.Seen(h.SequenceNumber, time.Duration(at))
		if p.stream.nacks.Pending() {
			l.askAgain(p)
		}
	}
	if !p.transportFeedback || p.twccID == 0 {
		return
	}
	v := h.Extension(p.twccID)
	if len(v) != 2 {
		return
	}
	rtcp := &p.transport.rtcp
	if rtcp.feedback == nil {
		rtcp.feedback = &rtp.TransportCC{}
	}
	rtcp.mediaSSRC = p.stream.ssrc
	rtcp.feedback.Record(uint16(v[0])<<8|uint16(v[1]), int64(at)/1000)
}

// askAgain asks a producer's client for the packets that are missing.
func (l *Loop) askAgain(p *producer) {
	missing := p.stream.nacks.Due(l.scratch.missing[:0], time.Duration(l.now), nackRoundTrip)
	if len(missing) == 0 {
		return
	}
	t := p.transport
	p.nacksOut++
	l.sendRTCP(t, rtp.AppendNack(l.feedbackStart(t), t.rtcp.ssrc, p.stream.ssrc, missing))
}

// feedbackStart begins a packet of feedback: with nothing where reduced size was
// negotiated (RFC 5506), with an empty report otherwise.
func (l *Loop) feedbackStart(t *transport) []byte {
	b := l.scratch.rtcp[:0]
	for _, p := range t.producers {
		if !p.reducedSize {
			b = rtp.AppendReceiverReport(b, t.rtcp.ssrc, nil)
			return rtp.AppendSourceDescription(b, t.rtcp.ssrc, l.cname)
		}
	}
	return b
}

// sayGoodbye tells a client that consumers of its transport end.
func (l *Loop) sayGoodbye(t *transport, consumers []*consumer) {
	if t.srtp.out == nil || t.ice.selected == nil {
		return
	}
	n := 0
	for _, c := range consumers {
		if c.entry().packets > 0 && n < maxReports {
			l.scratch.byes[n] = c.ssrc
			n++
		}
	}
	if n == 0 {
		return
	}
	b := rtp.AppendReceiverReport(l.scratch.rtcp[:0], t.rtcp.ssrc, nil)
	b = rtp.AppendSourceDescription(b, t.rtcp.ssrc, l.cname)
	l.sendRTCP(t, rtp.AppendBye(b, l.scratch.byes[:n]...))
}

// sendRTCP protects and queues a compound; an empty one is nothing.
func (l *Loop) sendRTCP(t *transport, b []byte) {
	if len(b) == 0 || t.ice.selected == nil {
		return
	}
	slot := l.slot(len(b) + srtcpOverhead)
	protected, err := t.srtp.protectRTCP(slot[:copy(slot, b)])
	if err != nil {
		l.countDropped(t, 1)
		return
	}
	l.push(t, l.out.ring.commit(len(protected)), len(protected))
}
