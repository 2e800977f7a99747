package rtc

import (
	"crypto/rand"
	"encoding/json"
	"fmt"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/ortc"
	"github.com/dspeak/sfu/worker/rtp"
)

// producer is a stream that a client sends. It belongs to the loop.
type producer struct {
	id        ident.ProducerID
	rec       *ledger.Producer
	transport *transport
	declared  *producerDeclared // nil: look into the ledger
	paused    bool

	// What the packet path needs of the parameters.
	payloadType              uint8
	clockRate                uint32
	midID, levelID, twccID   uint8 // header extension ids; 0: not negotiated
	nack, transportFeedback  bool
	mid, cname               string
	reducedSize              bool
	stream                   *inStream
	fan                      []fanout // one per consumer, in no order
	packets, bytes, nacksOut uint64   // of this producer; the stream may outlive it
	late                     uint64   // received, but not forwarded; see leaveOut
}

// producerDeclared is what the Produce call said and was answered. The ledger has it
// as JSON.
type producerDeclared struct {
	Kind               string
	Params, Consumable ortc.RtpParameters
}

// declaration is what p was made with.
func (l *Loop) declaration(p *producer) (*producerDeclared, error) {
	if p.declared == nil {
		d := &producerDeclared{}
		if err := json.Unmarshal(l.ledger.Blob(&p.rec.Declared), d); err != nil {
			return nil, fmt.Errorf("producer %s in the ledger: %w", p.id, err)
		}
		p.declared = d
	}
	return p.declared, nil
}

func (l *Loop) produce(p ProduceParams) (ortc.RtpParameters, error) {
	var none ortc.RtpParameters
	if err := checkID("producer", string(p.ID)); err != nil {
		return none, err
	}
	t, err := l.transportByID(p.Transport)
	if err != nil {
		return none, fmt.Errorf("produce: %w", err)
	}
	if old := l.table.producers[p.ID]; old != nil {
		if old.rec.Request != p.request {
			return none, fmt.Errorf("produce %s: %w", p.ID, errs.ErrExists)
		}
		d, err := l.declaration(old)
		if err != nil {
			return none, fmt.Errorf("produce: %w", err)
		}
		return d.Consumable, nil
	}
	if n := len(t.producers); n >= l.cfg.Limits.ProducersPerTransport {
		return none, fmt.Errorf("produce: %d producers on the transport: %w", n, errs.ErrExhausted)
	}
	pr, err := newProducer(t, &p)
	if err != nil {
		return none, fmt.Errorf("produce: %w", err)
	}
	if err := t.checkUnique(pr); err != nil {
		return none, fmt.Errorf("produce: %w", err)
	}
	if err := l.recordProducer(t, pr, p.request); err != nil {
		return none, fmt.Errorf("produce: %w", err)
	}
	t.producers = append(t.producers, pr)
	l.table.producers[pr.id] = pr
	return pr.declared.Consumable, nil
}

// recordProducer puts a new producer into the ledger, with its stream.
func (l *Loop) recordProducer(t *transport, pr *producer, request ledger.Digest) error {
	b, err := json.Marshal(pr.declared)
	if err != nil {
		return fmt.Errorf("encode parameters: %w", err)
	}
	if ssrc := pr.stream.ssrc; ssrc != 0 {
		if pr.stream, err = l.streamFor(t, ssrc); err != nil {
			return err
		}
	}
	rec, err := l.ledger.Producers.New()
	if err != nil {
		return err
	}
	if err := l.ledger.SetBlob(&rec.Declared, b); err != nil {
		l.ledger.Producers.Free(rec)
		return err
	}
	rec.Name.Set(string(pr.id))
	rec.Request, rec.Transport = request, t.rec.Ref()
	rec.Stream.Store(uint32(pr.stream.rec.Ref()))
	rec.Paused.Store(word(pr.paused))
	rec.PayloadType, rec.ClockRate = pr.payloadType, pr.clockRate
	rec.MidID, rec.LevelID, rec.TwccID = pr.midID, pr.levelID, pr.twccID
	rec.Nack, rec.Feedback, rec.ReducedSize = pr.nack, pr.transportFeedback, pr.reducedSize
	rec.Mid.Set(pr.mid)
	rec.CName.Set(pr.cname)
	l.ledger.Producers.Commit(rec)
	pr.rec = rec
	return nil
}

// word is a flag as the ledger stores it.
func word(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// newProducer negotiates the parameters.
func newProducer(t *transport, p *ProduceParams) (*producer, error) {
	if p.RtpParameters.Rtcp.CNAME == "" {
		// Consumers need one (RFC 3550 section 6.5.1).
		p.RtpParameters.Rtcp.CNAME = rand.Text()
	}
	p.RtpParameters = ortc.SentRtpParameters(p.RtpParameters)
	mapping, err := ortc.ProducerRtpMapping(p.RtpParameters, t.router.caps)
	if err != nil {
		return nil, err
	}
	consumable, err := ortc.ConsumableRtpParameters(p.Kind, p.RtpParameters, t.router.caps, mapping)
	if err != nil {
		return nil, err
	}
	codec := &p.RtpParameters.Codecs[0]
	pr := &producer{
		id: p.ID, transport: t, paused: p.Paused,
		declared:    &producerDeclared{Kind: p.Kind, Params: p.RtpParameters, Consumable: consumable},
		payloadType: codec.PayloadType,
		clockRate:   codec.ClockRate,
		mid:         p.RtpParameters.Mid,
		cname:       consumable.Rtcp.CNAME,
		reducedSize: p.RtpParameters.Rtcp.ReducedSize == nil || *p.RtpParameters.Rtcp.ReducedSize,
		stream:      unlearnt(),
	}
	if len(p.RtpParameters.Encodings) > 0 {
		pr.stream.ssrc = p.RtpParameters.Encodings[0].SSRC
	}
	for _, fb := range codec.RtcpFeedback {
		switch {
		case fb.Type == "nack" && fb.Parameter == "":
			pr.nack = true
		case fb.Type == "transport-cc":
			pr.transportFeedback = true
		}
	}
	for _, e := range p.RtpParameters.HeaderExtensions {
		switch e.URI {
		case ortc.URIMid:
			pr.midID = e.ID
		case ortc.URIAudioLevel:
			pr.levelID = e.ID
		case ortc.URITransportWideCC:
			pr.twccID = e.ID
		}
	}
	return pr, nil
}

// checkUnique refuses an SSRC or mid that another producer of the transport has.
func (t *transport) checkUnique(pr *producer) error {
	for _, other := range t.producers {
		if ssrc := pr.stream.ssrc; ssrc != 0 && other.stream.ssrc == ssrc {
			return fmt.Errorf("ssrc %d is in use on the transport: %w", ssrc, errs.ErrExists)
		}
		if pr.mid != "" && other.mid == pr.mid {
			return fmt.Errorf("mid %q is in use on the transport: %w", pr.mid, errs.ErrExists)
		}
	}
	return nil
}

// producerFor finds the producer of a packet: by its SSRC, or by its mid when the
// producer was declared without an SSRC.
func (t *transport) producerFor(h *rtp.Header) *producer {
	for _, p := range t.producers {
		if p.stream.ssrc == h.SSRC {
			return p
		}
	}
	for _, p := range t.producers {
		if p.stream.ssrc != 0 || p.midID == 0 || p.mid == "" {
			continue
		}
		if mid := h.Extension(p.midID); len(mid) > 0 && string(mid) == p.mid {
			return p
		}
	}
	return nil
}

func (l *Loop) producerByID(id ident.ProducerID) (*producer, error) {
	if p := l.table.producers[id]; p != nil {
		l.take(p.transport.router)
		return p, nil
	}
	return nil, fmt.Errorf("producer %s: %w", id, errs.ErrNotFound)
}

func (l *Loop) setProducerPaused(id ident.ProducerID, paused bool) error {
	p, err := l.producerByID(id)
	if err != nil {
		return fmt.Errorf("pause or resume: %w", err)
	}
	if p.paused == paused {
		return nil
	}
	// The runs end first: a pause that a crash cut short is asked for again, and leaves
	// no gap in the numbers.
	for i := range p.fan {
		p.fan[i].interrupt()
	}
	p.paused = paused
	p.rec.Paused.Store(word(paused))
	return nil
}

func (l *Loop) closeProducerCall(id ident.ProducerID) error {
	p, err := l.producerByID(id)
	if err != nil {
		return fmt.Errorf("close: %w", err)
	}
	l.destroyProducer(p)
	return nil
}

// destroyProducer closes a producer and its consumers.
func (l *Loop) destroyProducer(p *producer) {
	l.ledger.Producers.Condemn(p.rec)
	for len(p.fan) > 0 {
		c := p.fan[len(p.fan)-1].consumer
		l.sayGoodbye(c.transport, []*consumer{c})
		l.destroyConsumer(c)
	}
	t := p.transport
	for i, other := range t.producers {
		if other == p {
			t.producers = append(t.producers[:i], t.producers[i+1:]...)
			break
		}
	}
	delete(l.table.producers, p.id)
	l.ledger.Producers.Free(p.rec)
	p.rec = nil
}
