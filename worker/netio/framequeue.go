package netio

import "encoding/binary"

// frameQueue holds framed bytes that a socket did not take, in a buffer of fixed
// size. When it is full the oldest frames make room: late audio is worth least.
type frameQueue struct {
	buf        []byte // nil until first used
	start, end int
	// rest is how many bytes at start belong to a frame whose beginning is
	// already sent; those must not be dropped.
	rest int
}

func (q *frameQueue) len() int      { return q.end - q.start }
func (q *frameQueue) bytes() []byte { return q.buf[q.start:q.end] }

// push appends a frame of which the first skip bytes (header included) are sent
// already. It returns how many whole frames were dropped, maybe the new one.
func (q *frameQueue) push(packet []byte, skip, limit int) (dropped int) {
	if q.buf == nil {
		q.buf = make([]byte, limit)
	}
	size := frameHeader + len(packet) - skip
	for q.len()+size > len(q.buf) {
		if !q.dropOldest() {
			return dropped + 1
		}
		dropped++
	}
	if q.end+size > len(q.buf) {
		q.end = copy(q.buf, q.bytes())
		q.start = 0
	}
	if skip > 0 {
		q.rest = size
	}
	if skip < frameHeader {
		var header [frameHeader]byte
		binary.BigEndian.PutUint16(header[:], uint16(len(packet)))
		q.end += copy(q.buf[q.end:], header[skip:])
		skip = frameHeader
	}
	q.end += copy(q.buf[q.end:], packet[skip-frameHeader:])
	return dropped
}

// dropOldest removes the first frame of which nothing is sent; false: none.
func (q *frameQueue) dropOldest() bool {
	at := q.start + q.rest
	if at == q.end {
		return false
	}
	size := frameHeader + int(binary.BigEndian.Uint16(q.buf[at:]))
	copy(q.buf[at:], q.buf[at+size:q.end])
	q.end -= size
	return true
}

// sent removes n bytes from the front and returns how many frames ended in them.
func (q *frameQueue) sent(n int) (frames int) {
	for n > 0 {
		if q.rest == 0 {
			q.rest = frameHeader + int(binary.BigEndian.Uint16(q.buf[q.start:]))
		}
		step := min(q.rest, n)
		q.start += step
		q.rest -= step
		n -= step
		if q.rest == 0 {
			frames++
		}
	}
	if q.start == q.end {
		q.start, q.end = 0, 0
	}
	return frames
}
