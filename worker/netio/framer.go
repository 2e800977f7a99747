package netio

import (
	"encoding/binary"
	"fmt"

	"github.com/dspeak/sfu/internal/errs"
)

// frameHeader is the length field before every frame (RFC 4571 section 2).
const frameHeader = 2

// minReadSpace keeps reads from a socket large when frames are small.
const minReadSpace = 4096

// Framer cuts a byte stream into RFC 4571 frames. It is pure: the caller reads
// into Space, reports how much by Filled, and takes frames by Next.
type Framer struct {
	buf        []byte
	start, end int
	maxFrame   int
}

// NewFramer returns a Framer for frames of at most maxFrame bytes.
func NewFramer(maxFrame int) *Framer {
	return &Framer{buf: make([]byte, frameHeader+maxFrame+minReadSpace), maxFrame: maxFrame}
}

// Space is where the next bytes go, never empty after Next returned no frame.
// It invalidates frames.
func (f *Framer) Space() []byte {
	if f.start > 0 {
		f.end = copy(f.buf, f.buf[f.start:f.end])
		f.start = 0
	}
	return f.buf[f.end:]
}

// Filled says how many bytes were written to Space.
func (f *Framer) Filled(n int) { f.end += n }

// Next returns the next whole frame; ok is false when more bytes are needed.
// Empty frames are skipped. The frame is valid until Space is called. A length
// above the limit is an errs.ErrInvalid, and the stream cannot be used any more.
func (f *Framer) Next() (frame []byte, ok bool, err error) {
	for f.end-f.start >= frameHeader {
		size := int(binary.BigEndian.Uint16(f.buf[f.start:]))
		if size > f.maxFrame {
			return nil, false, fmt.Errorf("frame of %d bytes, at most %d: %w", size, f.maxFrame, errs.ErrInvalid)
		}
		if f.end-f.start < frameHeader+size {
			return nil, false, nil
		}
		frame = f.buf[f.start+frameHeader : f.start+frameHeader+size]
		f.start += frameHeader + size
		if size > 0 {
			return frame, true, nil
		}
	}
	return nil, false, nil
}
