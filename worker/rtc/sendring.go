package rtc

import "runtime"

// sendRing is the log of sent packets: a byte array written round and round.
// Packets are protected straight into it, sent from it and, for a while, sent
// again from it. Positions only grow; position p lives at p mod size.
type sendRing struct {
	buf  []byte
	mask uint64
	head uint64 // next position to write
}

// packetRef names a packet in the ring: position and length in one word. Zero
// refers to nothing.
type packetRef uint64

const refLenBits = 12 // packets are below 4096 bytes

// position is where the packet begins in the ring.
func (r packetRef) position() uint64 { return uint64(r) >> refLenBits }

func newSendRing(size int) (*sendRing, error) {
	n := 1
	for n < size {
		n <<= 1
	}
	// Position 0 is never given out, so that the zero packetRef is free.
	buf, err := newPages(n)
	if err != nil {
		return nil, err
	}
	r := &sendRing{buf: buf, mask: uint64(n - 1), head: 16}
	runtime.AddCleanup(r, freePages, buf)
	return r, nil
}

// reserve returns room for a packet of at most n bytes, which stays reserved only
// until the next call; commit keeps it. n is below 4096.
func (r *sendRing) reserve(n int) []byte {
	start := r.head & r.mask
	if start+uint64(n) > uint64(len(r.buf)) {
		r.head += uint64(len(r.buf)) - start
		start = 0
	}
	return r.buf[start : start+uint64(n) : start+uint64(n)]
}

// commit keeps the first n bytes of what reserve returned and names them.
func (r *sendRing) commit(n int) packetRef {
	ref := packetRef(r.head<<refLenBits | uint64(n))
	// Packets start at multiples of 16: a packet never shares its first vector
	// register's worth of bytes with another.
	r.head += uint64(n+15) &^ 15
	return ref
}

// packet returns the bytes of a packet, nil when they are overwritten.
func (r *sendRing) packet(ref packetRef) []byte {
	pos, n := ref.position(), uint64(ref)&(1<<refLenBits-1)
	if ref == 0 || pos+uint64(len(r.buf)) < r.head+2*maxPacket {
		return nil
	}
	start := pos & r.mask
	return r.buf[start : start+n : start+n]
}

// sameStream says whether two packets bear the same bytes where RTP has its SSRC.
func (r *sendRing) sameStream(a, b packetRef) bool {
	x, y := r.packet(a), r.packet(b)
	return len(x) >= 12 && len(y) >= 12 && [4]byte(x[8:12]) == [4]byte(y[8:12])
}

// room says how many bytes can be written before the oldest waiting packet,
// which was written at position since, is overwritten.
func (r *sendRing) room(since uint64) uint64 {
	used := r.head - since
	if used >= uint64(len(r.buf)) {
		return 0
	}
	return uint64(len(r.buf)) - used
}
