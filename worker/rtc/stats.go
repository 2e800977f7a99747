package rtc

import (
	"fmt"
	"math"
	"time"

	"github.com/dspeak/sfu/internal/errs"
)

// stats reports on what target names.
func (l *Loop) stats(target StatsTarget) (Stats, error) {
	var s Stats
	set := 0
	for _, named := range []bool{target.Router != "", target.Transport != "", target.Producer != "", target.Consumer != ""} {
		if named {
			set++
		}
	}
	switch {
	case set > 1:
		return s, fmt.Errorf("stats of %d targets: %w", set, errs.ErrInvalid)
	case target.Router != "":
		r := l.table.routers[target.Router]
		if r == nil {
			return s, fmt.Errorf("stats of router %s: %w", target.Router, errs.ErrNotFound)
		}
		for _, t := range r.transports {
			l.statsBelow(&s, t)
		}
	case target.Transport != "":
		t, err := l.transportByID(target.Transport)
		if err != nil {
			return s, fmt.Errorf("stats of %w", err)
		}
		l.statsBelow(&s, t)
	case target.Producer != "":
		p, err := l.producerByID(target.Producer)
		if err != nil {
			return s, fmt.Errorf("stats of %w", err)
		}
		s.Producers = []ProducerStats{l.producerStats(p)}
	case target.Consumer != "":
		c, err := l.consumerByID(target.Consumer)
		if err != nil {
			return s, fmt.Errorf("stats of %w", err)
		}
		s.Consumers = []ConsumerStats{l.consumerStats(c)}
	default:
		for _, t := range l.table.list {
			l.statsBelow(&s, t)
		}
	}
	return s, nil
}

// statsBelow adds a transport and everything on it.
func (l *Loop) statsBelow(s *Stats, t *transport) {
	s.Transports = append(s.Transports, TransportStats{
		Transport: t.id, Router: t.router.id, IceState: t.ice.state, DtlsState: t.dtls.state, Tuple: t.tuple(),
		BytesReceived: t.count.bytesReceived, BytesSent: t.count.bytesSent,
		PacketsReceived: t.count.received, PacketsSent: t.count.sent,
		PacketsDiscarded: t.count.discarded, PacketsDropped: t.count.dropped,
		LastCheckAgeMs: l.ageMs(t.ice.lastCheck),
	})
	for _, p := range t.producers {
		s.Producers = append(s.Producers, l.producerStats(p))
	}
	for _, c := range t.consumers {
		s.Consumers = append(s.Consumers, l.consumerStats(c))
	}
}

// figureLife is how long a figure stands that describes a stretch of time (jitter, the
// share of lost packets, a round trip) without another: three times the longest pause
// between a browser's reports. Counters stand for ever.
const figureLife = 15 * time.Second

func (l *Loop) producerStats(p *producer) ProducerStats {
	in := p.stream
	s := ProducerStats{
		Producer: p.id, Transport: p.transport.id, Router: p.transport.router.id, SSRC: in.ssrc,
		Packets: p.packets, Bytes: p.bytes, LastPacketAgeMs: l.ageMs(instant(in.rec.LastSeen)), Paused: p.paused, NacksSent: p.nacksOut,
		PacketsLate: p.late,
	}
	if in.rec.RTP.Started() {
		s.PacketsLost = in.rec.Reception.Lost()
		if l.now-instant(in.rec.LastSeen) < instant(figureLife) {
			s.JitterMs = in.rec.Reception.Jitter() * 1000 / float64(p.clockRate)
		}
	}
	if in.level.fresh(l.now) {
		s.AudioLevelDbov = new(int32(math.Round(in.level.smooth)))
	}
	return s
}

func (l *Loop) consumerStats(c *consumer) ConsumerStats {
	f, v := c.entry(), &c.report
	s := ConsumerStats{
		Consumer: c.id, Producer: c.producer.id, Transport: c.transport.id, Router: c.transport.router.id, SSRC: c.ssrc,
		Packets: f.packets, Bytes: f.bytes, PacketsLost: v.lost,
		LastPacketAgeMs: l.ageMs(f.lastSent), Paused: c.paused, ProducerPaused: c.producer.paused, Retransmitted: v.resent,
	}
	if v.at != 0 && l.now-v.at < instant(figureLife) {
		s.FractionLost = float64(v.fraction) / 256
		s.JitterMs = new(float64(v.jitter) * 1000 / float64(c.producer.clockRate))
		if v.roundTrip != 0 {
			s.RoundTripTimeMs = new(float64(v.roundTrip) / float64(time.Millisecond))
		}
	}
	heard := f.lastSent != 0 && l.now-f.lastSent < instant(levelLife)
	if level := &c.producer.stream.level; heard && level.fresh(l.now) {
		s.AudioLevelDbov = new(level.last)
	}
	return s
}

// ageMs is how long ago an instant is, nil for never.
func (l *Loop) ageMs(at instant) *uint32 {
	if at == 0 {
		return nil
	}
	return new(uint32(max(0, l.now-at) / instant(time.Millisecond)))
}

func (l *Loop) usage() Usage {
	return Usage{
		Routers: len(l.table.routers), Transports: len(l.table.list),
		Producers: len(l.table.producers), Consumers: len(l.table.consumers), TCPConnections: len(l.peers.all),
		PacketsReceived: l.count.received, PacketsSent: l.count.sent, PacketsDropped: l.count.dropped,
		PacketsLate: l.count.late, PaddingBytes: l.count.padding,
		EventsLost: l.count.eventsLost, BusyShare: l.pace.busy, Sockets: l.socketStats(),
	}
}
