package load

import (
	"time"

	"github.com/pion/rtcp"
)

const (
	// senderReportEvery is the time between two sender reports of a speaker.
	senderReportEvery = time.Second
	// receiverReportEvery is the mean time between two receiver reports of a
	// hearer; each time is drawn between half and one and a half of it, as RFC
	// 3550 section 6.2 has it.
	receiverReportEvery = 2500 * time.Millisecond
	// reportsPerPacket is how many reception reports one packet holds (RFC 3550
	// section 6.4.1: five bits).
	reportsPerPacket = 31
	// receiverSSRC is that of users who only hear, as Chromium has it.
	receiverSSRC = 1
	// maxLost is the greatest number of lost packets that a report can tell.
	maxLost = 1<<23 - 1
)

// ntp returns the NTP timestamp (RFC 3550 section 4) of a Unix time in nanoseconds.
func ntp(unix int64) uint64 {
	const epoch = 2_208_988_800 // seconds from 1900 to 1970
	seconds, rest := uint64(unix)/uint64(time.Second), uint64(unix)%uint64(time.Second)
	return (seconds+epoch)<<32 | rest<<32/uint64(time.Second)
}

// RTCPCounts says which RTCP packets came.
type RTCPCounts struct {
	SenderReports   uint64 `json:"senderReports"`
	ReceiverReports uint64 `json:"receiverReports"`
	NACKs           uint64 `json:"nacks"`
	Other           uint64 `json:"other"`
	// Malformed datagrams were not authentic or not RTCP.
	Malformed uint64 `json:"malformed"`
	// SenderReportsSent and ReceiverReportsSent count our own packets.
	SenderReportsSent   uint64 `json:"senderReportsSent"`
	ReceiverReportsSent uint64 `json:"receiverReportsSent"`
}

// reception is what RFC 3550 appendix A wants to know of a stream for its
// receiver reports. The engine owns it.
type reception struct {
	started bool
	// base and highest are extended sequence numbers (appendix A.1).
	base, highest uint32
	received      uint32
	// expectedPrior and receivedPrior are those of the last report (appendix A.3).
	expectedPrior, receivedPrior uint32
	// transit and jitter are in RTP clock units, jitter times 16 (appendix A.8).
	transit, jitter int32
	// lastReport is the middle of the last sender report's NTP timestamp,
	// lastReportAt its arrival in Unix nanoseconds.
	lastReport   uint32
	lastReportAt int64
}

// packet books a packet that arrived at the Unix time in nanoseconds.
func (r *reception) packet(sequence uint16, timestamp uint32, at int64) {
	transit := int32(uint32(uint64(at)/1000*rtpClock/1_000_000) - timestamp)
	r.received++
	if !r.started {
		r.started, r.base, r.highest, r.transit = true, uint32(sequence), uint32(sequence), transit
		return
	}
	if ahead := int16(sequence - uint16(r.highest)); ahead > 0 {
		r.highest += uint32(ahead)
	}
	d := transit - r.transit
	r.transit = transit
	if d < 0 {
		d = -d
	}
	r.jitter += d - (r.jitter+8)>>4
}

// report returns the report block of the stream at the Unix time in nanoseconds.
func (r *reception) report(ssrc uint32, now int64) rtcp.ReceptionReport {
	expected := r.highest - r.base + 1
	lost := int32(expected - r.received)
	block := rtcp.ReceptionReport{
		SSRC: ssrc, LastSequenceNumber: r.highest, Jitter: uint32(r.jitter >> 4),
		TotalLost: uint32(min(max(lost, 0), maxLost)),
	}
	interval, lostNow := expected-r.expectedPrior, int32(expected-r.expectedPrior)-int32(r.received-r.receivedPrior)
	if interval > 0 && lostNow > 0 {
		block.FractionLost = uint8(min(255, uint64(lostNow)<<8/uint64(interval)))
	}
	r.expectedPrior, r.receivedPrior = expected, r.received
	if r.lastReportAt != 0 {
		block.LastSenderReport = r.lastReport
		block.Delay = uint32(uint64(max(0, now-r.lastReportAt)) << 16 / uint64(time.Second))
	}
	return block
}

// handleRTCP handles a datagram of RTCP and says whether it is authentic.
func (e *engine) handleRTCP(t *transport, datagram []byte, at int64) bool {
	e.rtcp++
	if !t.connectedNow() {
		e.reports.Malformed++
		return false
	}
	plain, err := t.incoming.DecryptRTCP(e.plain[:0], datagram, &e.rtcpHeader)
	if err != nil {
		e.reports.Malformed++
		return false
	}
	packets, err := rtcp.Unmarshal(plain)
	if err != nil {
		e.reports.Malformed++
		return true
	}
	for _, packet := range packets {
		switch p := packet.(type) {
		case *rtcp.SenderReport:
			e.reports.SenderReports++
			if pair := (*t.pairs.Load())[p.SSRC]; pair != nil {
				pair.reception.lastReport, pair.reception.lastReportAt = uint32(p.NTPTime>>16), at
			}
		case *rtcp.ReceiverReport:
			e.reports.ReceiverReports++
		case *rtcp.TransportLayerNack:
			e.reports.NACKs++
		default:
			e.reports.Other++
		}
	}
	return true
}

// report sends the receiver reports of a hearing user.
func (e *engine) report(t *transport, now time.Time) {
	var blocks []rtcp.ReceptionReport
	for ssrc, p := range *t.pairs.Load() {
		if p.reception.started {
			blocks = append(blocks, p.reception.report(ssrc, now.UnixNano()))
		}
	}
	for len(blocks) > 0 {
		n := min(len(blocks), reportsPerPacket)
		if err := t.sendRTCP(&rtcp.ReceiverReport{SSRC: receiverSSRC, Reports: blocks[:n]}); err != nil {
			e.writeErrors.Add(1)
		}
		e.reports.ReceiverReportsSent++
		blocks = blocks[n:]
	}
}

// reportIn draws the time until a hearer's next report, in nanoseconds.
func (e *engine) reportIn() int64 {
	return int64(receiverReportEvery)/2 + e.random.Int64N(int64(receiverReportEvery))
}

// sendRTCP protects and sends packets in one datagram. Only the goroutine that
// owns t.outgoing calls it.
func (t *transport) sendRTCP(packets ...rtcp.Packet) error {
	plain, err := rtcp.Marshal(packets)
	if err != nil {
		return err
	}
	protected, err := t.outgoing.EncryptRTCP(nil, plain, nil)
	if err != nil {
		return err
	}
	t.write(protected)
	return nil
}

// senderReport is what the speaker tells of itself at the Unix time in
// nanoseconds, to which the RTP timestamp belongs.
func (s *speaker) senderReport(now int64, timestamp uint32) []rtcp.Packet {
	return []rtcp.Packet{
		&rtcp.SenderReport{SSRC: s.ssrc, NTPTime: ntp(now), RTPTime: timestamp, PacketCount: s.packets, OctetCount: s.octets},
		&rtcp.SourceDescription{Chunks: []rtcp.SourceDescriptionChunk{{
			Source: s.ssrc, Items: []rtcp.SourceDescriptionItem{{Type: rtcp.SDESCNAME, Text: s.name}},
		}}},
	}
}
