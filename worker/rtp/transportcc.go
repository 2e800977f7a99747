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
// is ready.
type TransportCC struct {
	started  bool
	base     uint64 // first sequence number of the next feedback, unwrapped
	highest  uint64
	count    uint8                  // of feedback packets
	arrivals [transportWindow]int64 // microseconds, 0: missing; by sequence number
}

// Record notes a packet's arrival, in microseconds of a steady clock, above 0.
func (t *TransportCC) Record(seq uint16, micros int64) {
	if !t.started {
		t.started = true
		t.base = uint64(seq) | 1<<32 // room below for late packets
		t.highest = t.base - 1
	}
	full := t.highest + uint64(int64(int16(seq-uint16(t.highest))))
	switch {
	case full < t.base:
		return // a feedback told of it already
	case full >= t.base+2*transportWindow: // a jump: begin anew
		t.arrivals = [transportWindow]int64{}
		t.base = full
	case full >= t.base+transportWindow: // the window moves on
		for s := t.base; s <= full-transportWindow; s++ {
			t.arrivals[s%transportWindow] = 0
		}
		t.base = full - transportWindow + 1
	}
	t.highest = max(t.highest, full)
	t.arrivals[full%transportWindow] = micros
}

// Pending says whether a packet arrived that no feedback told of.
func (t *TransportCC) Pending() bool { return t.started && t.highest >= t.base }

// AppendFeedback appends a feedback packet on what arrived since the last one. It
// appends nothing when nothing did.
func (t *TransportCC) AppendFeedback(dst []byte, sender, media uint32) []byte {
	t.skipMissing()
	if !t.Pending() {
		return dst
	}
	reference := t.arrivals[t.base%transportWindow] / referenceUnit
	symbols, deltas, n := t.encode(reference * referenceUnit)
	dst, start := appendRTCPHeader(dst, TypeTransportFeedback, FormatTransportCC)
	dst = binary.BigEndian.AppendUint32(dst, sender)
	dst = binary.BigEndian.AppendUint32(dst, media)
	dst = binary.BigEndian.AppendUint16(dst, uint16(t.base))
	dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	dst = binary.BigEndian.AppendUint32(dst, uint32(reference)<<8|uint32(t.count))
	t.count++
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
	for s := t.base; s < t.base+uint64(n); s++ {
		t.arrivals[s%transportWindow] = 0
	}
	t.base += uint64(n)
	return endRTCP(dst, start)
}

// skipMissing moves on to the first packet that arrived: a feedback begins with one.
func (t *TransportCC) skipMissing() {
	for t.Pending() && t.arrivals[t.base%transportWindow] == 0 {
		t.base++
	}
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
