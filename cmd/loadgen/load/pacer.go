package load

import (
	"context"
	"fmt"
	"time"

	"github.com/pion/rtp"
)

// pacer sends for all speakers, each at its own phase, on one goroutine.
type pacer struct {
	speakers []*speaker
	cfg      Config
	// late is the longest that a packet was sent after its time.
	late time.Duration
}

// run sends the warm-up and the counted packets of every speaker and returns
// after the last one. onCounted is called before the first counted packet.
func (p *pacer) run(ctx context.Context, onCounted func() error) error {
	if len(p.speakers) == 0 {
		return nil
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	start := time.Now().Add(10 * time.Millisecond)
	payload := make([]byte, p.cfg.Payload)
	buffer := make([]byte, 0, datagramSize)
	warmup := p.cfg.warmupPackets()
	for round := range warmup + p.cfg.packets() {
		if round == warmup {
			if err := onCounted(); err != nil {
				return err
			}
		}
		for i, s := range p.speakers {
			due := start.Add(time.Duration(round)*p.cfg.PacketTime + p.phase(i))
			if err := p.sleepUntil(ctx, timer, due); err != nil {
				return err
			}
			var err error
			if buffer, err = s.send(buffer, payload, round, round-warmup); err != nil {
				return err
			}
		}
	}
	return nil
}

// phase is the offset of speaker i within the packet time.
func (p *pacer) phase(i int) time.Duration {
	if p.cfg.Aligned {
		return 0
	}
	return p.cfg.PacketTime * time.Duration(i) / time.Duration(len(p.speakers))
}

func (p *pacer) sleepUntil(ctx context.Context, timer *time.Timer, due time.Time) error {
	wait := time.Until(due)
	if wait <= 0 {
		p.late = max(p.late, -wait)
		return ctx.Err()
	}
	timer.Reset(wait)
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send protects and sends one packet; counted is its index, negative in the warm-up.
func (s *speaker) send(buffer, payload []byte, round, counted int) ([]byte, error) {
	header := rtp.Header{
		Version: 2, PayloadType: opusPayloadType, SSRC: s.ssrc,
		SequenceNumber: uint16(round),
		Timestamp:      s.firstTimestamp + uint32(counted)*s.step,
	}
	plain, err := (&rtp.Packet{Header: header, Payload: payload}).Marshal()
	if err != nil {
		return buffer, fmt.Errorf("build packet: %w", err)
	}
	buffer, err = s.transport.outgoing.EncryptRTP(buffer[:0], plain, &header)
	if err != nil {
		return buffer, fmt.Errorf("protect packet: %w", err)
	}
	if counted >= 0 {
		s.sentAt[counted].Store(time.Now().UnixNano())
	}
	s.transport.write(buffer)
	return buffer, nil
}
