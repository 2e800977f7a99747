package netio

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

func TestFrameQueueDropsTheOldestWholeFrames(t *testing.T) {
	q := &frameQueue{}
	const limit = 4 * 12 // four frames of 10 bytes
	frame := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 10) }
	for i := range 4 {
		if n := q.push(frame(i), 0, limit); n != 0 {
			t.Fatalf("frame %d: %d dropped", i, n)
		}
	}
	q.sent(5) // frame 0 has begun: it must stay whole
	if n := q.push(frame(4), 0, limit); n != 1 {
		t.Fatalf("%d dropped, want 1", n)
	}
	want := append(bytes.Repeat([]byte{0}, 7), frame(2)...) // behind the header of frame 2
	want = append(want[:7], append([]byte{0, 10}, frame(2)...)...)
	if !bytes.HasPrefix(q.bytes(), want) {
		t.Errorf("queue is %x", q.bytes())
	}
	if n := q.sent(q.len()); n != 4 {
		t.Errorf("%d frames sent, want 4", n)
	}
	if n := q.push(make([]byte, 100), 0, limit); n != 1 || q.len() != 0 {
		t.Errorf("a frame larger than the queue: %d dropped, %d queued", n, q.len())
	}
}

// Whatever is dropped and however the socket takes it, the stream stays a
// sequence of whole frames in order.
func TestFrameQueueNeverBreaksTheStream(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	q := &frameQueue{}
	const limit = 600
	var stream []byte
	pushed, dropped, ended := 0, 0, 0
	take := func(n int) {
		stream = append(stream, q.bytes()[:n]...)
		ended += q.sent(n)
	}
	for i := range 20_000 {
		p := make([]byte, 4+rnd.IntN(200))
		binary.BigEndian.PutUint32(p, uint32(i))
		pushed++
		if q.len() == 0 && rnd.IntN(2) == 0 {
			// The socket took a part of it, maybe only half the header.
			skip := 1 + rnd.IntN(len(p)+frameHeader-1)
			stream = append(stream, append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...)[:skip]...)
			dropped += q.push(p, skip, limit)
		} else {
			dropped += q.push(p, 0, limit)
		}
		if rnd.IntN(3) == 0 {
			take(rnd.IntN(q.len() + 1))
		}
	}
	take(q.len())
	last, seen := -1, 0
	for len(stream) > 0 {
		size := int(binary.BigEndian.Uint16(stream))
		if size < 4 || len(stream) < 2+size {
			t.Fatalf("broken stream: length %d, %d bytes left", size, len(stream))
		}
		number := int(binary.BigEndian.Uint32(stream[2:]))
		if number <= last {
			t.Fatalf("frame %d after %d", number, last)
		}
		last = number
		seen++
		stream = stream[2+size:]
	}
	if seen+dropped != pushed || seen != ended || dropped == 0 {
		t.Errorf("%d pushed, %d seen, %d ended, %d dropped", pushed, seen, ended, dropped)
	}
}
