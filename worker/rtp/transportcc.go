package rtp

import "encoding/binary"

const (
	// transportWindow is how many sequence numbers one feedback may cover.
	transportWindow = 256
	deltaUnit       = 250   // microseconds
	referenceUnit   = 64000 // microseconds
	symbolsInChunk  = 7
	symbolMissing   = 0
	symbolSmall     = 1
	symbolLarge     = 2
)

// TransportCC collects arrivals of transport-wide sequence numbers and builds the
// feedback of draft-holmer-rmcat-transport-wide-cc-extensions-01. The zero value
// is ready. It belongs to one goroutine.
type TransportCC struct {
	started bool
	base    uint64 // first number that the next feedback tells of, extended
	highest uint64 // that arrived, extended
	count   uint8  // of feedback packets
	// arrivals are those of the numbers up to highest, in microseconds; 0: missing.
	arrivals [transportWindow]int64
}

// Record notes a packet's arrival, in microseconds of a steady clock, above 0. A
// packet that comes later than 256 others is ignored, and so is a duplicate.
func (t *TransportCC) Record(seq uint16, micros int64) {
	if !t.started {
		t.started = true
		t.base = 1<<16 | uint64(seq) // room below for late packets
		t.highest = t.base - 1
	}
	full := ExtendSequence(t.highest, seq)
	switch {
	case full > t.highest:
		t.advance(full)
	case t.highest-full >= transportWindow || t.arrivals[full%transportWindow] != 0:
		return
	}
	t.arrivals[full%transportWindow] = max(micros, 1)
	// A late packet was told missing: the next feedback begins with it again.
	t.base = min(t.base, full)
}

// advance moves the window on to a new highest number.
func (t *TransportCC) advance(to uint64) {
	if to-t.highest >= transportWindow {
		t.arrivals = [transportWindow]int64{}
	} else {
		for s := t.highest + 1; s < to; s++ {
			t.arrivals[s%transportWindow] = 0
		}
	}
	t.highest = to
	t.base = max(t.base, to-transportWindow+1)
}

// Pending says whether a packet arrived that no feedback told of.
func (t *TransportCC) Pending() bool { return t.started && t.highest >= t.base }

// AppendFeedback appends a feedback packet on what arrived since the last one, 606
// bytes at most. It appends nothing when nothing did. Where one packet cannot tell
// all, Pending stays true.
func (t *TransportCC) AppendFeedback(dst []byte, sender, media uint32) []byte {
	if !t.Pending() {
		return dst
	}
	reference := t.firstArrival() / referenceUnit
	symbols, deltas, n := t.encode(reference * referenceUnit)
	dst, start := appendRTCPHeader(dst, TypeTransportFeedback, FormatTransportCC)
	dst = binary.BigEndian.AppendUint32(dst, sender)
	dst = binary.BigEndian.AppendUint32(dst, media)
	dst = binary.BigEndian.AppendUint16(dst, uint16(t.base))
	dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	dst = binary.BigEndian.AppendUint32(dst, uint32(reference)<<8|uint32(t.count))
	t.count++
	t.base += uint64(n)
	for i := 0; i < n; i += symbolsInChunk {
		chunk := uint16(0xc000) // a vector of two-bit symbols
		for j := range min(symbolsInChunk, n-i) {
			chunk |= uint16(symbols[i+j]) << (2 * (symbolsInChunk - 1 - j))
		}
		dst = binary.BigEndian.AppendUint16(dst, chunk)
	}
	dst = append(dst, deltas.bytes[:deltas.n]...)
	for (len(dst)-start)%4 != 0 {
		dst = append(dst, 0)
	}
	return endRTCP(dst, start)
}

// firstArrival is when the first packet of a pending feedback arrived. The number
// that the feedback begins with may itself be missing.
func (t *TransportCC) firstArrival() int64 {
	for s := t.base; s < t.highest; s++ {
		if at := t.arrivals[s%transportWindow]; at != 0 {
			return at
		}
	}
	return t.arrivals[t.highest%transportWindow]
}

// deltaBytes are the receive deltas of one feedback.
type deltaBytes struct {
	bytes [2 * transportWindow]byte
	n     int
}

// encode makes the status symbols and deltas from base on, as far as deltas fit in
// 16 bits, and says how many packets they cover.
func (t *TransportCC) encode(last int64) (symbols [transportWindow]uint8, deltas deltaBytes, n int) {
	for s := t.base; s <= t.highest; s++ {
		at := t.arrivals[s%transportWindow]
		if at == 0 {
			symbols[n] = symbolMissing
			n++
			continue
		}
		delta := (at - last) / deltaUnit
		switch {
		case delta >= 0 && delta <= 255:
			symbols[n] = symbolSmall
			deltas.bytes[deltas.n] = byte(delta)
			deltas.n++
		case delta >= -1<<15 && delta < 1<<15:
			symbols[n] = symbolLarge
			binary.BigEndian.PutUint16(deltas.bytes[deltas.n:], uint16(int16(delta)))
			deltas.n += 2
		default:
			return symbols, deltas, n
		}
		last += delta * deltaUnit // the receiver adds rounded deltas: so do we
		n++
	}
	return symbols, deltas, n
}
