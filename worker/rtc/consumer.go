package rtc

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/ortc"
	"github.com/dspeak/sfu/worker/rtp"
)

// consumer is a producer's stream on its way to one client. What the packet path
// needs of it is its record in the producer's fan. It belongs to the loop.
type consumer struct {
	id        ident.ConsumerID
	rec       *ledger.Consumer
	transport *transport
	producer  *producer
	slot      int // index in producer.fan
	paused    bool
	ssrc      uint32
	report    receiverView
	// introduced says that the consumer may own the transport's first section;
	// packetsBefore is how many it had sent when the introduction began.
	introduced    bool
	packetsBefore uint64
	history       [historySize]packetRef // see fanout
}

// entry is the consumer's entry in the packet path. It moves when another
// consumer of the producer is closed: never keep it.
func (c *consumer) entry() *fanout { return &c.producer.fan[c.slot] }

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
	switch old := l.table.consumers[p.ID]; {
	case pr == nil || pr.transport.router != t.router:
		return none, fmt.Errorf("consume: producer %s: %w", p.Producer, errs.ErrNotFound)
	case old != nil && old.rec.Request == p.request:
		return l.consumeResult(old)
	case old != nil:
		return none, fmt.Errorf("consume %s: %w", p.ID, errs.ErrExists)
	case t.consumes(pr):
		return none, fmt.Errorf("consume: the transport consumes producer %s already: %w", pr.id, errs.ErrExists)
	case len(t.consumers) >= l.cfg.Limits.ConsumersPerTransport:
		return none, fmt.Errorf("consume: %d consumers on the transport: %w", len(t.consumers), errs.ErrExhausted)
	case len(l.table.consumers) >= l.cfg.Limits.Consumers:
		return none, fmt.Errorf("consume: %d consumers: %w", len(l.table.consumers), errs.ErrExhausted)
	}
	rec, params, err := l.recordConsumer(t, pr, &p)
	if err != nil {
		return none, fmt.Errorf("consume: %w", err)
	}
	l.addConsumer(t, pr, rec)
	return ConsumeResult{Kind: ortc.KindAudio, RtpParameters: params, ProducerPaused: pr.paused}, nil
}

// consumeResult is what the call that made a consumer was answered.
func (l *Loop) consumeResult(c *consumer) (ConsumeResult, error) {
	r := ConsumeResult{Kind: ortc.KindAudio, ProducerPaused: c.producer.paused}
	if err := json.Unmarshal(l.ledger.Blob(&c.rec.Params), &r.RtpParameters); err != nil {
		return r, fmt.Errorf("consumer %s in the ledger: %w", c.id, err)
	}
	return r, nil
}

func (t *transport) consumes(p *producer) bool {
	for _, c := range t.consumers {
		if c.producer == p {
			return true
		}
	}
	return false
}

// recordConsumer negotiates a new consumer and puts it into the ledger.
func (l *Loop) recordConsumer(t *transport, pr *producer, p *ConsumeParams) (*ledger.Consumer, ortc.RtpParameters, error) {
	var params ortc.RtpParameters
	declared, err := l.declaration(pr)
	if err != nil {
		return nil, params, err
	}
	mid, ssrc := t.nextStream()
	params, err = ortc.ConsumerRtpParameters(declared.Consumable, p.RtpCapabilities, ssrc, strconv.FormatUint(uint64(mid), 10))
	if err != nil {
		return nil, params, err
	}
	b, err := json.Marshal(params)
	if err != nil {
		return nil, params, fmt.Errorf("encode parameters: %w", err)
	}
	rec, err := l.ledger.Consumers.New()
	if err != nil {
		return nil, params, err
	}
	if err = layHeader(rec, &params, ssrc); err == nil {
		err = l.ledger.SetBlob(&rec.Params, b)
	}
	if err != nil {
		l.ledger.Consumers.Free(rec)
		return nil, params, err
	}
	rec.Name.Set(string(p.ID))
	rec.Transport, rec.Producer, rec.SSRC, rec.Request = t.rec.Ref(), pr.rec.Ref(), ssrc, p.request
	rec.Paused.Store(word(p.Paused))
	// Numbers start low (RFC 3711 section 3.3.1), so that a receiver that misses the
	// first packets still guesses the rollover counter right.
	rec.Mapping.Start(uint64(randomUint32() & 0x7fff))
	l.ledger.Consumers.Commit(rec)
	return rec, params, nil
}

// addConsumer puts a consumer of the ledger in its place.
func (l *Loop) addConsumer(t *transport, pr *producer, rec *ledger.Consumer) {
	c := &consumer{
		id: ident.ConsumerID(rec.Name.String()), rec: rec, transport: t, producer: pr, slot: len(pr.fan),
		paused: rec.Paused.Load() != 0, ssrc: rec.SSRC,
	}
	pr.fan = append(pr.fan, fanout{
		consumer: c, transport: t, history: &c.history, paused: c.paused, ssrc: c.ssrc,
		seq: loadSeqMap(&rec.Mapping, pr.stream.rec.RTP.Highest()), packets: rec.Packets, bytes: rec.Octets,
		payloadType: rec.PayloadType, headerLen: rec.HeaderLen, absSendTime: rec.AbsSendTime,
		levelElement: rec.LevelElement, levelLen: rec.LevelLen, template: rec.Template,
	})
	t.consumers = append(t.consumers, c)
	l.table.sent[sentStream{t, c.ssrc}] = c
	l.table.consumers[c.id] = c
	l.expectIntroduction(t, rec)
}

// nextStream picks a mid and an SSRC that this transport never sent with, and notes it
// before they are used: a repeated mid breaks the client's session, a repeated SSRC
// could repeat an index. The SSRC is the mid under a permutation of its own.
func (t *transport) nextStream() (mid, ssrc uint32) {
	for {
		mid = t.rec.NextMid
		t.rec.NextMid++
		if ssrc = t.streamSSRC(mid); ssrc != 0 && ssrc != t.rec.RTCPSSRC {
			return mid, ssrc
		}
	}
}

// streamSSRC is the SSRC of the consumer with the given mid.
func (t *transport) streamSSRC(mid uint32) uint32 { return permute(mid ^ t.rec.SSRCKey) }

// permute maps each number to one that looks random, no two to the same (the last
// steps of MurmurHash3).
func permute(n uint32) uint32 {
	n ^= n >> 16
	n *= 0x85ebca6b
	n ^= n >> 13
	n *= 0xc2b2ae35
	return n ^ n>>16
}

func randomUint32() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint32(b[:])
}

// layHeader prepares the RTP header that all packets of a consumer begin with.
func layHeader(rec *ledger.Consumer, params *ortc.RtpParameters, ssrc uint32) error {
	fields := rtp.HeaderFields{SSRC: ssrc, PayloadType: params.Codecs[0].PayloadType, Mid: params.Mid}
	for _, e := range params.HeaderExtensions {
		switch e.URI {
		case ortc.URIMid:
			fields.MidID = e.ID
		case ortc.URIAbsSendTime:
			fields.AbsSendTimeID = e.ID
		case ortc.URIAudioLevel:
			fields.AudioLevelID = e.ID
		}
	}
	header, layout := rtp.AppendHeader(rec.Template[:0], fields)
	if layout.Size > len(rec.Template) {
		return fmt.Errorf("rtp header of %d bytes: %w", layout.Size, errs.ErrInvalid)
	}
	copy(rec.Template[:], header)
	rec.PayloadType = fields.PayloadType
	rec.HeaderLen = uint8(layout.Size)
	rec.AbsSendTime = uint8(layout.AbsSendTime)
	rec.LevelElement = uint8(layout.AudioLevel)
	rec.LevelLen = uint8(layout.AudioLevelSize)
	return nil
}

func (l *Loop) consumerByID(id ident.ConsumerID) (*consumer, error) {
	if c := l.table.consumers[id]; c != nil {
		l.take(c.transport.router)
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
	f := c.entry()
	f.interrupt() // first, as in setProducerPaused
	c.paused, f.paused = paused, paused
	c.rec.Paused.Store(word(paused))
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
	delete(l.table.sent, sentStream{c.transport, c.ssrc})
	delete(l.table.consumers, c.id)
	l.ledger.Consumers.Free(c.rec)
	c.rec = nil
}
