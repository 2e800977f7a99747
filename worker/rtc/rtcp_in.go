package rtc

import (
	"math/bits"
	"time"

	"github.com/dspeak/sfu/worker/rtp"
)

// receiverView is what the receiver of a consumer reported, and how often it was
// served again.
type receiverView struct {
	at          instant // of the last report; 0: none yet
	lost        int64
	fraction    uint8 // of 256
	jitter      uint32
	roundTrip   time.Duration // 0: never measured
	resent      uint64
	resendSince instant // start of the window in which resends are counted
	resendCount int
}

const (
	// resendWindow and resendLimit bound what a receiver can make us send again.
	resendWindow = 200 * time.Millisecond
	resendLimit  = 64
)

// onRTCP authenticates a compound packet and takes what concerns us.
func (l *Loop) onRTCP(tu *tuple, b []byte, at instant) {
	t := tu.transport
	if t.srtp.in == nil {
		t.count.discarded++
		return
	}
	rest, newest, err := l.unprotectRTCP(t, b)
	if err != nil {
		t.count.discarded++
		return
	}
	if newest {
		l.heard(tu)
	}
	l.dropFlight(t)
	for len(rest) > 0 {
		var pkt rtp.RTCPPacket
		if pkt, rest, err = rtp.NextRTCP(rest); err != nil {
			t.count.discarded++
			return
		}
		switch pkt.Type {
		case rtp.TypeSenderReport:
			if info, ok := pkt.SenderInfo(); ok {
				t.onSenderReport(info, at)
			}
			l.onReports(t, pkt, at)
		case rtp.TypeReceiverReport:
			l.onReports(t, pkt, at)
		case rtp.TypeTransportFeedback:
			l.onNack(t, pkt)
		default:
			// SDES, BYE, XR and the like change nothing here: the end of a stream is
			// said over the signaling.
		}
	}
}

// onSenderReport notes how a producer's media clock stands to time.
func (t *transport) onSenderReport(info rtp.SenderInfo, at instant) {
	for _, p := range t.producers {
		if p.stream.ssrc == info.SSRC {
			r := &p.stream.rec.Report
			r.At = 0 // half of a report is none
			r.NTP, r.RTPTime = info.NTP, info.Timestamp
			r.At = int64(at)
			return
		}
	}
}

// onReports takes a receiver's report blocks on our consumers.
func (l *Loop) onReports(t *transport, pkt rtp.RTCPPacket, at instant) {
	for i := range pkt.Reports() {
		rep := pkt.Report(i)
		c := l.table.sent[sentStream{t, rep.SSRC}]
		if c == nil {
			continue
		}
		v := &c.report
		v.at = at
		v.lost, v.fraction, v.jitter = int64(rep.TotalLost), rep.FractionLost, rep.Jitter
		if rtt, ok := rtp.RoundTrip(rtp.NTP(l.steadyWall(at)), rep); ok {
			// A round trip below the resolution of the report still counts.
			v.roundTrip = max(rtt, time.Microsecond)
		}
	}
}

// onNack sends again what a receiver misses.
func (l *Loop) onNack(t *transport, pkt rtp.RTCPPacket) {
	if pkt.Nacks() == 0 {
		return
	}
	c := l.table.sent[sentStream{t, pkt.MediaSSRC()}]
	if c == nil {
		return
	}
	for i := range pkt.Nacks() {
		seq, following := pkt.Nack(i)
		l.resendTo(c, seq)
		for following != 0 {
			bit := bits.TrailingZeros16(following)
			following &^= 1 << bit
			l.resendTo(c, seq+uint16(bit)+1)
		}
	}
}

// resendTo sends one packet again, within the consumer's limit.
func (l *Loop) resendTo(c *consumer, seq uint16) {
	v := &c.report
	if l.now-v.resendSince >= instant(resendWindow) {
		v.resendSince, v.resendCount = l.now, 0
	}
	if v.resendCount >= resendLimit {
		return
	}
	v.resendCount++
	if l.resend(c.entry(), seq) {
		v.resent++
	}
}
