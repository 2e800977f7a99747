package rtc

import (
	"encoding/binary"
	"strconv"
	"time"

	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/ortc"
	"github.com/dspeak/sfu/worker/rtp"
)

// A client assigns an SSRC to the media section that its packets name by their mid (RFC
// 8843 section 9.2). Firefox also assigns by payload type while it has a single section
// and no packet has named that section. A packet of a second consumer, whose section the
// client has yet to make, then takes over the receiver of the first; when the second
// section comes, it finds its SSRC taken and stays silent for good.
//
// So the first section must be named before anything else arrives. Its consumer is one of
// those made before the keys came, since a client connects a transport together with its
// first section, but the client alone knows which, and its speaker may be silent. All of
// them are introduced: with packets that carry the consumer's SSRC and mid and a payload
// type that no section has. They bind the right section and can bind no other. Media
// waits for the introduction, which takes part of the time in which the client connects;
// consumers that are made later never wait.
const (
	// introPayloadType is in no client's media section: routers offer Opus alone.
	introPayloadType = 127
	// introRounds is how often consumers are introduced before media follows: packets get
	// lost.
	introRounds = 3
	introEvery  = 20 * time.Millisecond
	// introFor is how long consumers without media are introduced further.
	introFor = time.Second
	// maxIntroduced bounds the consumers that are introduced. A client makes the first
	// section of one of the first answers that it gets.
	maxIntroduced = 16
	// maxRepeats is how often an introduction begins anew. What asks for it is not
	// authenticated, so more would let a forger hold a listener's media back.
	maxRepeats = 3
)

// introduction is how far a transport's introduction is.
type introduction struct {
	wanted bool    // a client that needs it consumed before the keys came
	end    instant // 0: no introduction is under way
	next   instant // when the next round is due
	rounds int     // sent so far
	// repeats is how often it has begun anew.
	repeats int
	// ended are the mids of consumers that were closed before the keys came, as bits. The
	// client may have made its first section of one of them.
	ended uint16
	seq   uint16 // used last for all of them
}

// bindsByPayloadType reports whether a consumer's client assigns as Firefox does. Clients
// that stand on the demultiplexer of libwebrtc, which does not, negotiate abs-send-time
// beside the mid and the audio level.
func bindsByPayloadType(rec *ledger.Consumer) bool {
	var h rtp.Header
	return rec.AbsSendTime == 0 && rec.LevelElement != 0 &&
		rtp.Parse(rec.Template[:rec.HeaderLen], &h) == nil && len(h.Extension(ortc.RouterMidID)) > 0
}

// expectIntroduction notes that a new consumer may own the transport's first section.
func (l *Loop) expectIntroduction(t *transport, rec *ledger.Consumer) {
	early := t.rec.Dtls.Load() != ledger.DtlsDone || l.now-instant(t.rec.Finished) < instant(introFor)
	if early && !t.intro.wanted && t.srtp.out == nil {
		t.intro.wanted = bindsByPayloadType(rec)
	}
}

// beginIntroduction introduces the consumers of a transport whose keys have just come.
func (l *Loop) beginIntroduction(t *transport) {
	in := &t.intro
	if !in.wanted {
		return
	}
	for mid := range min(t.rec.NextMid, maxIntroduced) {
		if l.table.sent[sentStream{t, t.streamSSRC(mid)}] == nil {
			in.ended |= 1 << mid
		}
	}
	l.startIntroduction(t)
}

// repeatIntroduction introduces them anew when the client turns out not to have had the
// keys so far. It has seen nothing of the streams under way either.
func (l *Loop) repeatIntroduction(t *transport) {
	if !t.intro.wanted || t.intro.repeats == maxRepeats {
		return
	}
	t.intro.repeats++
	for _, c := range t.consumers {
		c.entry().interrupt()
	}
	l.startIntroduction(t)
}

// resumeIntroduction goes on with the introduction that a predecessor began, if it did.
func (l *Loop) resumeIntroduction(t *transport) {
	if t.intro.wanted && l.now-t.dtls.finished < instant(introFor) {
		l.startIntroduction(t)
	}
}

// startIntroduction begins the rounds for all consumers that no stream of is under way.
func (l *Loop) startIntroduction(t *transport) {
	for _, c := range t.consumers[:min(len(t.consumers), maxIntroduced)] {
		f := c.entry()
		c.introduced, c.packetsBefore = !f.seq.synced, f.packets
	}
	t.intro.rounds, t.intro.end = 0, l.now+instant(introFor)
	l.introduce(t)
}

// holds reports whether the first packet of a consumer must wait for the introduction,
// and goes on with that. A transport's only consumer does not wait: its own packets name
// its section.
func (l *Loop) holds(t *transport) bool {
	in := &t.intro
	if in.end == 0 || in.rounds >= introRounds || t.rec.NextMid == 1 {
		return false
	}
	if l.now >= in.next {
		l.introduce(t)
	}
	return true
}

// sweepIntroduction introduces consumers that have no media, until the time is over.
func (l *Loop) sweepIntroduction(t *transport) {
	switch in := &t.intro; {
	case in.end == 0:
	case l.now >= in.end:
		in.end = 0
	case l.now >= in.next:
		l.introduce(t)
	}
}

// introduce sends a round.
func (l *Loop) introduce(t *transport) {
	in := &t.intro
	in.rounds++
	in.next = l.now + instant(introEvery)
	for _, c := range t.consumers {
		f := c.entry()
		if !c.introduced || f.packets > c.packetsBefore {
			continue
		}
		f.seq.last++
		c.rec.Mapping.Start(f.seq.last) // before its use, so that no successor uses it again
		l.sendIntroduction(t, f.template[:f.headerLen], int(f.levelElement), int(f.levelLen), f.seq.last)
	}
	if in.ended == 0 {
		return
	}
	in.seq++ // these SSRCs were never used, and nobody will use them
	for mid := range uint32(maxIntroduced) {
		if in.ended&(1<<mid) == 0 {
			continue
		}
		header, _ := rtp.AppendHeader(l.scratch.rtcp[:0], rtp.HeaderFields{
			SSRC: t.streamSSRC(mid), Mid: strconv.Itoa(int(mid)), MidID: ortc.RouterMidID,
		})
		l.sendIntroduction(t, header, 0, 0, uint64(in.seq))
	}
}

// sendIntroduction sends a packet without payload under an extended sequence number. The
// header's audio level, where there is one, says nothing.
func (l *Loop) sendIntroduction(t *transport, header []byte, level, levelLen int, number uint64) {
	b := l.slot(len(header) + maxTag)[:len(header)]
	copy(b, header)
	b[1] = introPayloadType
	binary.BigEndian.PutUint16(b[2:], uint16(number))
	clear(b[level : level+levelLen])
	ssrc := binary.BigEndian.Uint32(b[8:])
	protected := t.srtp.out.RTP(b, len(b), ssrc, number)
	l.push(t, l.out.ring.commit(len(protected)), len(protected))
}
