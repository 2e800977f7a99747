package faults

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// ear is what one user hears over one transport. The receiving goroutine writes
// it, others read it.
type ear struct {
	user  *user
	seed  maphash.Seed
	tcp   bool
	notes *notes

	mu      sync.Mutex
	proof   Proof              // guarded by mu
	streams map[uint32]*stream // by the consumer's SSRC; guarded by mu
	rtcp    map[uint32]sparse  // by the sender's SSRC; guarded by mu
	ended   bool               // guarded by mu
	// lost is set when the user's session ended by no will of its own.
	lost atomic.Bool
	// handshakes are DTLS datagrams after the first handshake.
	handshakes atomic.Uint64
}

// stream is one speaker heard by one user. The ear's lock guards it.
type stream struct {
	indexes indexes
	// producer is what the consumer was made for, "" as long as only packets came.
	producer string
	voice    *voice
	heard    bool
	// lastAt is the last arrival in Unix nanoseconds, highest the last slot.
	lastAt, highest int64
	window          window
}

// window is what a stream does between two moments.
type window struct {
	open bool
	// from is the highest slot at the start.
	from   int64
	unique int64
	// silence is the longest time between two arrivals.
	silence int64
}

func newEar(u *user, tcp bool) *ear {
	return &ear{
		user: u, seed: u.call.seed, tcp: tcp, notes: u.call.notes,
		streams: map[uint32]*stream{}, rtcp: map[uint32]sparse{},
	}
}

// RTP implements load.Watch.
func (e *ear) RTP(datagram []byte, authentic bool, at int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !authentic {
		e.proof.Unauthentic++
		e.notes.fault("%s got an RTP packet of %d bytes, SSRC %d, sequence number %d, that is not authentic",
			e.user.name, len(datagram), binary.BigEndian.Uint32(datagram[8:]), binary.BigEndian.Uint16(datagram[2:]))
		return
	}
	ssrc := binary.BigEndian.Uint32(datagram[8:])
	s := e.streamLocked(ssrc)
	sequence := binary.BigEndian.Uint16(datagram[2:])
	index := s.indexes.extend(sequence)
	if s.indexes.started && index>>16 > s.indexes.highest>>16 {
		e.proof.RollOvers++
	}
	v := s.indexes.note(index, uint32(maphash.Bytes(e.seed, datagram))) //nolint:gosec // half of the hash
	e.proof.count(v, &e.proof.RTP)
	if v == clash {
		e.notes.fault("%s got other bytes under RTP index %d of SSRC %d, the key's highest is %d", e.user.name, index, ssrc, s.indexes.highest)
	}
	if v == fresh {
		s.arrived(e.user.call, binary.BigEndian.Uint32(datagram[4:]), at)
	}
}

// RTCP implements load.Watch.
func (e *ear) RTCP(datagram []byte, index uint32, authentic bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !authentic {
		e.proof.Unauthentic++
		e.notes.fault("%s got an RTCP packet with index %d that is not authentic", e.user.name, index)
		return
	}
	ssrc := binary.BigEndian.Uint32(datagram[4:])
	if e.rtcp[ssrc] == nil {
		e.rtcp[ssrc] = sparse{}
	}
	v := e.rtcp[ssrc].note(index, uint32(maphash.Bytes(e.seed, datagram))) //nolint:gosec // half of the hash
	e.proof.count(v, &e.proof.RTCP)
	if v == clash {
		e.notes.fault("%s got other bytes under SRTCP index %d of SSRC %d", e.user.name, index, ssrc)
	}
}

// DTLS implements load.Watch.
func (e *ear) DTLS([]byte) { e.handshakes.Add(1) }

func (e *ear) streamLocked(ssrc uint32) *stream {
	s := e.streams[ssrc]
	if s == nil {
		s = &stream{}
		e.streams[ssrc] = s
	}
	return s
}

// arrived books a packet with a new index.
func (s *stream) arrived(c *call, timestamp uint32, at int64) {
	if s.voice == nil {
		if s.voice = c.voice(s.producer); s.voice == nil {
			return // the consumer's answer has not been read yet
		}
	}
	slot := s.voice.slot(timestamp)
	if !s.heard {
		s.heard, s.highest, s.lastAt = true, slot, at
		return
	}
	s.window.silence = max(s.window.silence, at-s.lastAt)
	s.lastAt = max(s.lastAt, at)
	s.highest = max(s.highest, slot)
	if slot > s.window.from {
		s.window.unique++
	}
}

// listen says which producer the consumer's SSRC carries.
func (e *ear) listen(ssrc uint32, producer string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.streamLocked(ssrc).producer = producer
}

// hears says up to which slot the producer was heard, and whether the user has
// left.
func (e *ear) hears(producer string) (slot int64, ended bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.streams {
		switch {
		case s.producer != producer:
		case !s.heard:
			return 0, e.ended, fmt.Errorf("%w: no packet ever", errSilent)
		default:
			return s.highest, e.ended, nil
		}
	}
	return 0, e.ended, fmt.Errorf("%w: not consumed", errSilent)
}

// open begins a window of all streams.
func (e *ear) open() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.streams {
		s.window = window{open: s.heard && !s.voice.ended.Load(), from: s.highest}
	}
}

// shut ends the window and calls book for each stream that there was all the time,
// with the silence beyond the packet time and the packets that are missing.
func (e *ear) shut(now int64, book func(overTCP bool, silence time.Duration, lost int64)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.streams {
		if !s.window.open || s.voice.ended.Load() || e.ended {
			continue
		}
		silence := max(s.window.silence, now-s.lastAt) - int64(packetTime)
		book(e.tcp || s.voice.tcp, time.Duration(max(0, silence)), s.highest-s.window.from-s.window.unique)
	}
}

// end returns what the proof has seen; the ear's streams count no more.
func (e *ear) end() Proof {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
	return e.proof
}
