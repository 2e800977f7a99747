package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/pion/rtp"
)

// lead is how long before a window's first packet the pacer begins to wait for it.
const lead = 10 * time.Millisecond

// pacer sends for all speakers, each at its own phase, on one goroutine that is
// locked to its thread.
type pacer struct {
	speakers []*speaker
	rhythm   *rhythm
	windows  *windows
	clock    clock
	// origin is when slot 0 began, by CLOCK_MONOTONIC in nanoseconds.
	origin int64
	// late counts how long after its time each packet was sent.
	late *histogram
	// reports is how many sender reports were sent.
	reports uint64
	header  rtp.Header
	plain   []byte
	buffer  []byte
}

// slotsIn is how many packet times lie in d, at least one.
func slotsIn(d, packetTime time.Duration) int64 { return max(1, int64(d/packetTime)) }

// sent sums up what was sent in a window.
type sent struct {
	// packets and payload are counts of packets and their payload's bytes as the
	// hearers should receive them: a packet counts once for each.
	packets, payload uint64
}

func newPacer(cfg Config, speakers []*speaker, windows *windows) (*pacer, error) {
	clock, err := newClock()
	if err != nil {
		return nil, fmt.Errorf("read clock: %w", err)
	}
	random := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // repeatable, not secret
	for _, s := range speakers {
		s.reportAt = random.Int64N(slotsIn(senderReportEvery, cfg.PacketTime))
	}
	return &pacer{
		speakers: speakers, rhythm: newRhythm(cfg), windows: windows, clock: clock, origin: clock.now(),
		late: newHistogram(), plain: make([]byte, datagramSize), buffer: make([]byte, 0, datagramSize),
	}, nil
}

// next returns the number of the next slot that can be played whole and when it
// begins, by CLOCK_MONOTONIC.
func (p *pacer) next() (slot, start int64) {
	packetTime := int64(p.rhythm.packetTime)
	slot = (p.clock.now()+int64(lead)-p.origin)/packetTime + 1
	return slot, p.origin + slot*packetTime
}

// warmUp sends the packets of so many slots, which are not counted.
func (p *pacer) warmUp(ctx context.Context, slots int) error {
	first, start := p.next()
	return p.rhythm.play(start, slots, func(b beat) error { return p.send(ctx, b, first, nil) })
}

// window sends the packets of the next window and returns after the last one.
func (p *pacer) window(ctx context.Context) (sent, error) {
	first, start := p.next()
	p.windows.begin(first)
	var sum sent
	err := p.rhythm.play(start, p.windows.slots, func(b beat) error { return p.send(ctx, b, first, &sum) })
	return sum, err
}

// send waits until a packet is due, protects it and sends it. A sum is given for
// a counted packet.
func (p *pacer) send(ctx context.Context, b beat, first int64, sum *sent) error {
	slot := first + int64(b.slot)
	late, err := p.clock.sleepUntil(ctx, b.due)
	if err != nil {
		return err
	}
	p.late.add(late)
	s := p.speakers[b.speaker]
	p.header = rtp.Header{
		Version: 2, PayloadType: opusPayloadType, SSRC: s.ssrc, SequenceNumber: s.sequence,
		Timestamp: s.firstTimestamp + uint32(slot)*s.step,
	}
	s.sequence++
	n, err := p.header.MarshalTo(p.plain)
	if err != nil {
		return fmt.Errorf("build packet: %w", err)
	}
	p.buffer, err = s.transport.outgoing.EncryptRTP(p.buffer[:0], p.plain[:n+b.size], &p.header)
	if err != nil {
		return fmt.Errorf("protect packet: %w", err)
	}
	if sum != nil {
		_, index, _ := p.windows.place(slot)
		s.sentAt[index].Store(time.Now().UnixNano())
		sum.packets += uint64(s.hearers)
		sum.payload += uint64(s.hearers) * uint64(b.size)
	}
	s.transport.write(p.buffer)
	s.packets++
	s.octets += uint32(b.size)
	if slot < s.reportAt {
		return nil
	}
	s.reportAt = slot + slotsIn(senderReportEvery, p.rhythm.packetTime)
	p.reports++
	return s.transport.sendRTCP(s.senderReport(time.Now().UnixNano(), p.header.Timestamp)...)
}
