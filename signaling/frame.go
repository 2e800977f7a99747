package signaling

import (
	"encoding/binary"

	"github.com/gorilla/websocket"

	"github.com/dspeak/sfu/signaling/wire"
)

// frame is one WebSocket message or control frame to be written.
type frame struct {
	text *wire.Encoded
	// pong is the payload of a pong frame, when text is nil.
	pong []byte
	// replaceable: the frame is dropped when a newer one of its kind comes while it waits.
	replaceable bool
	// patient: the frame waits for others while the socket is busy.
	patient bool
}

// size is how much the frame counts in a queue.
func (f frame) size() int {
	if f.text == nil {
		return len(f.pong)
	}
	return len(f.text.Bytes())
}

// Bits of a header's first byte: FIN, and RSV1 (RFC 7692 section 6).
const final, compressed = 0x80, 0x40

// payload is what goes onto the wire, with the first byte of its header.
func (f frame) payload(d *deflater) (first byte, payload []byte) {
	if f.text == nil {
		return final | websocket.PongMessage, f.pong
	}
	if d != nil && len(f.text.Bytes()) >= deflateFrom {
		if small := f.text.Deflated(d.compress); small != nil {
			return final | compressed | websocket.TextMessage, small
		}
	}
	return final | websocket.TextMessage, f.text.Bytes()
}

// maxHeader is the longest header.
const maxHeader = 10

// appendHeader appends a server's frame header (RFC 6455 section 5.2): without a mask.
func appendHeader(b []byte, first byte, size int) []byte {
	const short, long = 126, 127
	switch {
	case size < short:
		return append(b, first, byte(size)) //nolint:gosec // below 126
	case size < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, first, short), uint16(size))
	default:
		return binary.BigEndian.AppendUint64(append(b, first, long), uint64(size))
	}
}
