package rtc

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/worker/ortc"
	"github.com/dspeak/sfu/worker/rtp"
)

// consumer is a producer's stream on its way to one client. What the packet path
// needs of it is its record in the producer's fan. It belongs to the loop.
type consumer struct {
	id        ident.ConsumerID
	transport *transport
	producer  *producer
	slot      int // index in producer.fan
	paused    bool
	params    ortc.RtpParameters
	ssrc      uint32
	cname     string
	report    receiverView
}

// record is the consumer's entry in the packet path. It moves when another
// consumer of the producer is closed: never keep it.
func (c *consumer) record() *fanout { return &c.producer.fan[c.slot] }

func (l *Loop) consume(p ConsumeParams) (ConsumeResult, error) {
	var none ConsumeResult
	if err := checkID("consumer", string(p.ID)); err != nil {
		return none, err
	}
	t, err := l.transportByID(p.Transport)
	if err != nil {
		return none, fmt.Errorf("consume: %w", err)
	}
	pr := l.table.producers[p.Producer]
	switch {
	case pr == nil || pr.transport.router != t.router:
		return none, fmt.Errorf("consume: producer %s: %w", p.Producer, errs.ErrNotFound)
	case l.table.consumers[p.ID] != nil:
		return none, fmt.Errorf("consume %s: %w", p.ID, errs.ErrExists)
	case t.consumes(pr):
		return none, fmt.Errorf("consume: the transport consumes producer %s already: %w", pr.id, errs.ErrExists)
	case len(t.consumers) >= l.cfg.Limits.ConsumersPerTransport:
		return none, fmt.Errorf("consume: %d consumers on the transport: %w", len(t.consumers), errs.ErrExhausted)
	}
	c, err := newConsumer(t, pr, &p)
	if err != nil {
		return none, fmt.Errorf("consume: %w", err)
	}
	f, err := c.newFanout()
	if err != nil {
		return none, fmt.Errorf("consume: %w", err)
	}
	t.nextMid++
	c.slot = len(pr.fan)
	pr.fan = append(pr.fan, f)
	t.consumers = append(t.consumers, c)
	t.consumerBySSRC[c.ssrc] = c
	l.table.consumers[c.id] = c
	return ConsumeResult{Kind: pr.declared.kind, RtpParameters: c.params, ProducerPaused: pr.paused}, nil
}

func (t *transport) consumes(p *producer) bool {
	for _, c := range t.consumers {
		if c.producer == p {
			return true
		}
	}
	return false
}

func newConsumer(t *transport, pr *producer, p *ConsumeParams) (*consumer, error) {
	c := &consumer{id: p.ID, transport: t, producer: pr, paused: p.Paused, ssrc: t.newSSRC()}
	params, err := ortc.ConsumerRtpParameters(pr.declared.consumable, p.RtpCapabilities, c.ssrc,
		strconv.FormatUint(uint64(t.nextMid), 10))
	if err != nil {
		return nil, err
	}
	c.params, c.cname = params, params.Rtcp.CNAME
	return c, nil
}

// newSSRC picks an SSRC that this transport never sent with.
func (t *transport) newSSRC() uint32 {
	for {
		ssrc := randomUint32()
		if ssrc == 0 || ssrc == t.rtcp.ssrc || t.sentWith(ssrc) {
			continue
		}
		return ssrc
	}
}

func (t *transport) sentWith(ssrc uint32) bool {
	if t.consumerBySSRC[ssrc] != nil {
		return true
	}
	if t.srtp.out == nil {
		return false
	}
	_, used := t.srtp.out.ROC(ssrc)
	return used
}

func randomUint32() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint32(b[:])
}

// newFanout prepares the consumer's record for the packet path.
func (c *consumer) newFanout() (fanout, error) {
	f := fanout{
		consumer: c, transport: c.transport, history: new([historySize]packetRef), paused: c.paused, ssrc: c.ssrc,
		// Numbers start low (RFC 3711 section 3.3.1), so that a receiver that misses
		// the first packets still guesses the rollover counter right.
		seq: newSeqMap(uint16(randomUint32()&0x7fff) | 1),
	}
	fields := rtp.HeaderFields{SSRC: c.ssrc, PayloadType: c.params.Codecs[0].PayloadType, Mid: c.params.Mid}
	for _, e := range c.params.HeaderExtensions {
		switch e.URI {
		case ortc.URIMid:
			fields.MidID = e.ID
		case ortc.URIAbsSendTime:
			fields.AbsSendTimeID = e.ID
		case ortc.URIAudioLevel:
			fields.AudioLevelID = e.ID
		}
	}
	header, layout := rtp.AppendHeader(f.template[:0], fields)
	if layout.Size > templateSize {
		return f, fmt.Errorf("rtp header of %d bytes: %w", layout.Size, errs.ErrInvalid)
	}
	copy(f.template[:], header)
	f.payloadType = fields.PayloadType
	f.headerLen = uint8(layout.Size)
	f.absSendTime = uint8(layout.AbsSendTime)
	f.levelElement = uint8(layout.AudioLevel)
	f.levelLen = uint8(layout.AudioLevelSize)
	return f, nil
}

func (l *Loop) consumerByID(id ident.ConsumerID) (*consumer, error) {
	if c := l.table.consumers[id]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("consumer %s: %w", id, errs.ErrNotFound)
}

func (l *Loop) setConsumerPaused(id ident.ConsumerID, paused bool) error {
	c, err := l.consumerByID(id)
	if err != nil {
		return fmt.Errorf("pause or resume: %w", err)
	}
	if c.paused == paused {
		return nil
	}
	c.paused = paused
	f := c.record()
	f.paused = paused
	f.seq.interrupt()
	return nil
}

func (l *Loop) closeConsumerCall(id ident.ConsumerID) error {
	c, err := l.consumerByID(id)
	if err != nil {
		return fmt.Errorf("close: %w", err)
	}
	l.sayGoodbye(c.transport, []*consumer{c})
	l.destroyConsumer(c)
	return nil
}

// destroyConsumer takes a consumer out of everything. Packets of it that wait are
// still sent.
func (l *Loop) destroyConsumer(c *consumer) {
	p := c.producer
	last := len(p.fan) - 1
	p.fan[c.slot] = p.fan[last]
	p.fan[c.slot].consumer.slot = c.slot
	p.fan[last] = fanout{}
	p.fan = p.fan[:last]
	for i, other := range c.transport.consumers {
		if other == c {
			c.transport.consumers = append(c.transport.consumers[:i], c.transport.consumers[i+1:]...)
			break
		}
	}
	delete(c.transport.consumerBySSRC, c.ssrc)
	delete(l.table.consumers, c.id)
}
