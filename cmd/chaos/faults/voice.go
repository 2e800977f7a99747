package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"

	"github.com/dspeak/sfu/cmd/loadgen/load"
)

const (
	packetTime = 20 * time.Millisecond
	// phases is how many different times in a packet time speakers have.
	phases = 20
	// rtpStep is the RTP timestamp's growth with each slot.
	rtpStep = 960
	// payloadSize is that of speech at 32 kbit/s, and a bit.
	payloadSize = 100
	// remembered packets of each speaker may be sent again, as a network does.
	remembered = 16
	reportSlot = 50
	// One of jumpers voices skips jump sequence numbers after every jumpEvery packets,
	// as after a long loss: so the 16-bit numbers roll over on all hops, for the
	// server's outgoing ones follow the incoming ones.
	jumpers, jump, jumpEvery = 8, 12_000, 100
	headerSize               = 12
	opusType                 = 111
)

// voice is one producer's sound. The pacer owns what is not constant.
type voice struct {
	name  string
	ssrc  uint32
	first uint32 // timestamp of slot 0
	link  *load.Link
	phase int
	tcp   bool
	jumps bool
	// ended is set when it falls silent on purpose.
	ended atomic.Bool
	// lost is set before that when its user lost the session.
	lost atomic.Bool

	sequence        uint16
	packets, octets uint32
	last            [remembered][]byte
}

// newVoice begins with a sequence number that rolls over soon: one in two within
// 20 s, the others within five minutes and a half.
func newVoice(name string, link *load.Link, tcp bool, random *rand.Rand) *voice {
	before := 100 + random.IntN(900)
	if random.IntN(2) == 0 {
		before = random.IntN(1 << 14)
	}
	return &voice{
		name: name, ssrc: random.Uint32() | 1, first: random.Uint32(), link: link, tcp: tcp, jumps: random.IntN(jumpers) == 0,
		phase: random.IntN(phases), sequence: uint16(1<<16 - 1 - before), //nolint:gosec // below 1 << 16
	}
}

// slot is the slot that an RTP timestamp belongs to.
func (v *voice) slot(timestamp uint32) int64 { return int64((timestamp - v.first) / rtpStep) }

// pacer sends for all voices.
type pacer struct {
	origin time.Time
	random *rand.Rand
	// repeat is the share of packets after which an older one is sent once more.
	repeat float64
	// slot is the slot that is being sent.
	slot atomic.Int64
	// repeats counts the packets that were sent again.
	repeats atomic.Uint64

	mu     sync.Mutex
	voices [phases][]*voice // guarded by mu
	late   []time.Duration  // of each slot, guarded by mu

	plain, buffer []byte
}

func newPacer(seed uint64, repeat float64) *pacer {
	return &pacer{
		random: rand.New(rand.NewPCG(seed, 3)), //nolint:gosec // repeatable, not secret
		repeat: repeat, plain: make([]byte, headerSize+payloadSize), buffer: make([]byte, 0, 2*payloadSize),
	}
}

// begin lets the voice speak.
func (p *pacer) begin(v *voice) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.voices[v.phase] = append(p.voices[v.phase], v)
}

// end makes the voice fall silent: nothing of it is sent after end returned.
func (p *pacer) end(v *voice) {
	v.ended.Store(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.voices[v.phase] = slices.DeleteFunc(p.voices[v.phase], func(o *voice) bool { return o == v })
}

// run sends until the context ends.
func (p *pacer) run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer load.Punctual()()
	p.origin = time.Now()
	for slot := int64(1); ctx.Err() == nil; slot++ {
		p.slot.Store(slot)
		for phase := range phases {
			due := p.origin.Add(time.Duration(slot)*packetTime + time.Duration(phase)*packetTime/phases)
			load.SleepUntil(due)
			if err := p.send(slot, phase, time.Since(due)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *pacer) send(slot int64, phase int, late time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if phase == 0 {
		p.late = append(p.late, late)
	}
	for _, v := range p.voices[phase] {
		if err := p.speakLocked(v, slot); err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
	}
	return nil
}

func (p *pacer) speakLocked(v *voice, slot int64) error {
	timestamp := v.first + uint32(slot)*rtpStep //nolint:gosec // wraps by design
	header := rtp.Header{Version: 2, PayloadType: opusType, SSRC: v.ssrc, SequenceNumber: v.sequence, Timestamp: timestamp}
	if _, err := header.MarshalTo(p.plain); err != nil {
		return fmt.Errorf("build packet: %w", err)
	}
	protected, err := v.link.Protect(p.buffer[:0], p.plain, &header)
	if err != nil {
		return err
	}
	v.link.Write(protected)
	place := v.sequence % remembered
	v.last[place] = append(v.last[place][:0], protected...)
	if old := v.last[p.random.IntN(remembered)]; p.repeat > 0 && len(old) > 0 && p.random.Float64() < p.repeat {
		v.link.Write(old)
		p.repeats.Add(1)
	}
	v.sequence++
	v.packets++
	v.octets += payloadSize
	if v.jumps && v.packets%jumpEvery == 0 {
		v.sequence += jump
	}
	if v.packets%reportSlot != 0 {
		return nil
	}
	return v.link.Report(v.name, v.ssrc, timestamp, v.packets, v.octets)
}

// lateness is the 99th percentile of how late slots were sent, and the maximum.
func (p *pacer) lateness() (p99, highest time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := distribution(p.late)
	return d.P99, d.Max
}
