package rtc

import (
	"encoding/binary"

	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/rtp"
)

// templateSize is room for the largest outgoing RTP header: fixed part, mid,
// abs-send-time and audio level.
const templateSize = ledger.TemplateSize

// historySize is how many sent packets a consumer can send again: 1.3 s of 20 ms
// frames, far more than any receiver waits for one.
const historySize = 64

// fanout is what the packet path needs of one consumer, side by side in the
// producer's slice.
type fanout struct {
	consumer  *consumer
	transport *transport
	history   *[historySize]packetRef
	seq       seqMap
	packets   uint64
	bytes     uint64 // RTP payload
	// off: paused, or the transport has no keys yet.
	paused       bool
	ssrc         uint32
	payloadType  uint8
	headerLen    uint8
	absSendTime  uint8 // offset of the value in the template; 0: not negotiated
	levelElement uint8 // offset of the audio-level element, id included; 0: not negotiated
	levelLen     uint8
	lastSent     instant
	lastTime     uint32 // RTP timestamp of the last packet sent
	template     [templateSize]byte
}

// incoming is an authenticated RTP packet of a producer.
type incoming struct {
	index    uint64 // extended sequence number
	time     uint32
	marker   bool
	level    byte // RFC 6464 byte as received
	hasLevel bool
	payload  []byte
	padding  int // bytes to add, so that packets to one destination are of one size
}

// onRTP authenticates a packet and forwards it.
func (l *Loop) onRTP(tu *tuple, b []byte, at instant) {
	t, h := tu.transport, &l.scratch.header
	if t.srtp.in == nil || rtp.Parse(b, h) != nil {
		t.count.discarded++
		return
	}
	p := t.producerFor(h)
	if p == nil {
		t.count.discarded++
		return
	}
	index, plain, newest := l.authenticate(t, p, b, h)
	if plain == nil {
		t.count.discarded++
		return
	}
	if newest {
		l.heard(tu)
	}
	payload, err := rtp.Payload(plain, h)
	if err != nil || h.PayloadType != p.payloadType {
		t.count.discarded++
		return
	}
	l.stir()
	l.dropFlight(t)
	p.receive(l, h, len(payload), at)
	if p.paused || l.leaveOut(p, at) {
		return
	}
	in := incoming{index: index, time: h.Timestamp, marker: h.Marker, payload: payload}
	if v := p.levelOf(h); v != nil {
		in.level, in.hasLevel = v[0], true
	}
	in.padding = l.out.padding(len(payload))
	if len(payload) == 0 { // a probe of the sender's: without it, receivers would count a loss
		in.padding = max(in.padding, 1)
	}
	l.forward(p, &in)
}

// authenticate unprotects a packet that came for the first time and notes its index,
// before anything follows from it: on a successor it comes too late. plain is nil for
// any other packet; newest: nothing newer of the stream came before.
func (l *Loop) authenticate(t *transport, p *producer, b []byte, h *rtp.Header) (index uint64, plain []byte, newest bool) {
	s := p.stream
	if s.ssrc == 0 { // to be learnt by mid
		s = t.srtp.lookup(h.SSRC)
	}
	index, newest = uint64(h.SequenceNumber), true
	switch {
	case s == nil:
		if f, _ := t.srtp.recall(h.SSRC); f.rtp > 0 {
			if index = rtp.ExtendSequence(f.rtp-1, h.SequenceNumber); index < f.rtp {
				return 0, nil, false
			}
		}
	case s.rec.RTP.Started():
		index = rtp.ExtendSequence(s.rec.RTP.Highest(), h.SequenceNumber)
		if !s.rec.RTP.Fresh(index) {
			return 0, nil, false
		}
		newest = index > s.rec.RTP.Highest()
	}
	plain, err := t.srtp.in.OpenRTP(b, h.Size, h.SSRC, index)
	if err != nil {
		return 0, nil, false
	}
	if p.stream.ssrc == 0 {
		if s, err = l.streamFor(t, h.SSRC); err != nil {
			return 0, nil, false
		}
		p.stream = s
		p.rec.Stream.Store(uint32(s.rec.Ref()))
	}
	s.rec.RTP.Mark(index)
	return index, plain, newest
}

// forward sends a packet to every consumer of its producer.
func (l *Loop) forward(p *producer, in *incoming) {
	sendTime := rtp.AbsSendTime(l.wall)
	for i := -aheadFan; i < len(p.fan); i++ {
		readAhead(p.fan, i, in.index)
		if i < 0 {
			continue
		}
		f := &p.fan[i]
		if f.paused || f.transport.srtp.out == nil {
			continue
		}
		if !f.seq.synced {
			if l.holds(f.transport) {
				continue
			}
			f.begin(in.index)
		}
		out, ok := f.seq.outgoing(in.index)
		if !ok {
			continue
		}
		l.forwardTo(f, in, out, sendTime)
	}
}

// forwardTo builds, protects and queues one copy under the extended sequence
// number out.
func (l *Loop) forwardTo(f *fanout, in *incoming, out uint64, sendTime uint32) {
	size := int(f.headerLen) + len(in.payload) + in.padding
	b := l.slot(size + maxTag)
	copy(b, f.template[:f.headerLen])
	b[1] = f.payloadType
	if in.marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], uint16(out))
	binary.BigEndian.PutUint32(b[4:], in.time)
	if o := int(f.absSendTime); o != 0 {
		b[o], b[o+1], b[o+2] = byte(sendTime>>16), byte(sendTime>>8), byte(sendTime)
	}
	if o := int(f.levelElement); o != 0 {
		if in.hasLevel {
			b[o+int(f.levelLen)-1] = in.level
		} else {
			clear(b[o : o+int(f.levelLen)]) // padding (RFC 8285 section 4.1.1)
		}
	}
	copy(b[f.headerLen:], in.payload)
	if in.padding > 0 { // RFC 3550 section 5.1
		b[0] |= 0x20
		clear(b[size-in.padding : size])
		b[size-1] = byte(in.padding)
		l.count.padding += uint64(in.padding)
	}
	protected := f.transport.srtp.out.RTP(b[:size], int(f.headerLen), f.ssrc, out)
	ref := l.out.ring.commit(len(protected))
	f.history[out%historySize] = ref
	f.packets++
	f.bytes += uint64(len(in.payload))
	f.lastSent, f.lastTime = l.now, in.time
	l.push(f.transport, ref, len(protected))
}

// resend sends a packet again as it was: the identical bytes, never protected anew.
func (l *Loop) resend(f *fanout, seq uint16) bool {
	ref := f.history[seq%historySize]
	b := l.out.ring.packet(ref)
	if len(b) < 12 || binary.BigEndian.Uint16(b[2:]) != seq || binary.BigEndian.Uint32(b[8:]) != f.ssrc {
		return false
	}
	// The copy goes to the front of the ring, so that the send queue's packets stay
	// younger than its mark.
	l.send(f.transport, b)
	return true
}
