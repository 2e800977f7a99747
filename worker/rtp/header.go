package rtp

import (
	"encoding/binary"
	"fmt"

	"github.com/dspeak/sfu/internal/errs"
)

// HeaderSize is the size of the fixed RTP header (RFC 3550 section 5.1).
const HeaderSize = 12

// Kind is a protocol on a media socket.
type Kind uint8

// The kinds that Classify tells apart.
const (
	KindUnknown Kind = iota
	KindSTUN
	KindDTLS
	KindRTP
	KindRTCP
)

// Classify sorts a datagram by its first byte (RFC 7983 section 7), RTP and RTCP
// by the second (RFC 5761 section 4). It promises nothing about the rest.
func Classify(b []byte) Kind {
	switch {
	case len(b) < 2:
		return KindUnknown
	case b[0] <= 3:
		return KindSTUN
	case b[0] >= 20 && b[0] <= 63:
		return KindDTLS
	case b[0] >= 128 && b[0] <= 191:
		if b[1] >= 192 && b[1] <= 223 {
			return KindRTCP
		}
		return KindRTP
	default:
		return KindUnknown
	}
}

// Profiles of header extensions (RFC 8285 sections 4.2 and 4.3).
const (
	profileOneByte     = 0xBEDE
	profileTwoByte     = 0x1000
	profileTwoByteMask = 0xFFF0
)

// Header is a view of an RTP header. It aliases the packet, and is good as long as
// the packet's header bytes are unchanged; decryption in place leaves them alone.
type Header struct {
	SequenceNumber uint16
	Timestamp      uint32
	SSRC           uint32
	PayloadType    uint8
	Marker         bool
	Padding        bool
	// Size is the length of the whole header, extensions included.
	Size int

	profile    uint16
	extensions []byte
}

// Parse reads the header of an RTP packet (RFC 3550 section 5.1), encrypted or not,
// into h. Malformed input is an error that wraps errs.ErrInvalid, and leaves h
// useless. Padding is not looked at: see Payload.
func Parse(b []byte, h *Header) error {
	if len(b) < HeaderSize || b[0]>>6 != 2 {
		return errHeader
	}
	h.Padding = b[0]&0x20 != 0
	h.Marker = b[1]&0x80 != 0
	h.PayloadType = b[1] & 0x7f
	h.SequenceNumber = binary.BigEndian.Uint16(b[2:])
	h.Timestamp = binary.BigEndian.Uint32(b[4:])
	h.SSRC = binary.BigEndian.Uint32(b[8:])
	h.Size = HeaderSize + 4*int(b[0]&0x0f)
	h.profile, h.extensions = 0, nil
	if b[0]&0x10 != 0 {
		if len(b) < h.Size+4 {
			return errHeader
		}
		h.profile = binary.BigEndian.Uint16(b[h.Size:])
		start := h.Size + 4
		h.Size = start + 4*int(binary.BigEndian.Uint16(b[h.Size+2:]))
		if len(b) < h.Size {
			return errHeader
		}
		h.extensions = b[start:h.Size]
	}
	if len(b) < h.Size {
		return errHeader
	}
	return nil
}

// errHeader is made once: parsing must not allocate, however hostile the input.
var errHeader = fmt.Errorf("rtp header malformed: %w", errs.ErrInvalid)

// Extension returns the value of the first header extension element with the id
// (RFC 8285), nil when there is none; id 0 names none. A malformed block ends the
// search. In the two-byte form a value may be empty.
func (h *Header) Extension(id uint8) []byte {
	switch {
	case id == 0:
		return nil
	case h.profile == profileOneByte:
		return oneByteElement(h.extensions, id)
	case h.profile&profileTwoByteMask == profileTwoByte:
		return twoByteElement(h.extensions, id)
	default:
		return nil
	}
}

// oneByteElement searches a block of RFC 8285 section 4.2: id and length minus one
// in one byte, zero bytes as padding. The block ends at id 15, and at id 0 with a
// length.
func oneByteElement(b []byte, id uint8) []byte {
	for i := 0; i < len(b); {
		if b[i] == 0 {
			i++
			continue
		}
		element, size := b[i]>>4, int(b[i]&0x0f)+1
		i++
		if element == 0 || element == 15 || i+size > len(b) {
			return nil
		}
		if element == id {
			return b[i : i+size]
		}
		i += size
	}
	return nil
}

// twoByteElement searches a block of RFC 8285 section 4.3: id and length in a byte
// each, a zero id is one byte of padding.
func twoByteElement(b []byte, id uint8) []byte {
	for i := 0; i < len(b); {
		if b[i] == 0 {
			i++
			continue
		}
		if i+2 > len(b) {
			return nil
		}
		element, size := b[i], int(b[i+1])
		i += 2
		if i+size > len(b) {
			return nil
		}
		if element == id {
			return b[i : i+size]
		}
		i += size
	}
	return nil
}

// Payload returns the payload of a decrypted packet whose header is h, without
// padding (RFC 3550 section 5.1); it is empty when there is nothing but padding.
// Padding that is longer than the payload, or says that it is 0 bytes long, is an
// error that wraps errs.ErrInvalid.
func Payload(b []byte, h *Header) ([]byte, error) {
	if len(b) < h.Size {
		return nil, errHeader
	}
	payload := b[h.Size:]
	if !h.Padding {
		return payload, nil
	}
	if len(payload) == 0 {
		return nil, errHeader
	}
	padding := int(payload[len(payload)-1])
	if padding == 0 || padding > len(payload) {
		return nil, errHeader
	}
	return payload[:len(payload)-padding], nil
}
