package rtp

import "encoding/binary"

// HeaderFields are the constant parts of the headers of one outgoing stream. An
// extension id of 0 leaves the extension out.
type HeaderFields struct {
	SSRC                               uint32
	PayloadType                        uint8
	Mid                                string
	MidID, AbsSendTimeID, AudioLevelID uint8
}

// Layout says where the changing fields of a built header are.
type Layout struct {
	// Size is the length of the header.
	Size int
	// AbsSendTime is the offset of the three value bytes, 0 without it.
	AbsSendTime int
	// AudioLevel is the offset of the element with its id, 0 without it;
	// AudioLevelSize is the element's length. The value is its last byte.
	AudioLevel, AudioLevelSize int
}

// maxOneByteID and maxOneByteSize bound what the one-byte form can say (RFC 8285
// section 4.2).
const (
	maxOneByteID   = 14
	maxOneByteSize = 16
)

// AppendHeader appends a header with the constant parts filled in and the others
// zero, in the one-byte form when ids and sizes allow it. The mid stands last: its
// length is the only one that differs between the consumers of one client.
func AppendHeader(dst []byte, f HeaderFields) ([]byte, Layout) {
	var l Layout
	start := len(dst)
	dst = append(dst, 0x80, f.PayloadType&0x7f, 0, 0, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, f.SSRC)
	if f.MidID == 0 && f.AbsSendTimeID == 0 && f.AudioLevelID == 0 {
		l.Size = len(dst) - start
		return dst, l
	}
	dst[start] |= 0x10
	twoByte := max(f.MidID, f.AbsSendTimeID, f.AudioLevelID) > maxOneByteID || len(f.Mid) > maxOneByteSize
	profile := uint16(profileOneByte)
	if twoByte {
		profile = profileTwoByte
	}
	dst = binary.BigEndian.AppendUint16(dst, profile)
	length := len(dst)
	dst = append(dst, 0, 0)
	if f.AbsSendTimeID != 0 {
		dst = appendElement(dst, f.AbsSendTimeID, 3, twoByte)
		l.AbsSendTime = len(dst) - start
		dst = append(dst, 0, 0, 0)
	}
	if f.AudioLevelID != 0 {
		l.AudioLevel = len(dst) - start
		dst = append(appendElement(dst, f.AudioLevelID, 1, twoByte), 0)
		l.AudioLevelSize = len(dst) - start - l.AudioLevel
	}
	if f.MidID != 0 && f.Mid != "" {
		dst = append(appendElement(dst, f.MidID, len(f.Mid), twoByte), f.Mid...)
	}
	for (len(dst)-length-2)%4 != 0 {
		dst = append(dst, 0)
	}
	binary.BigEndian.PutUint16(dst[length:], uint16((len(dst)-length-2)/4))
	l.Size = len(dst) - start
	return dst, l
}

func appendElement(dst []byte, id uint8, size int, twoByte bool) []byte {
	if twoByte {
		return append(dst, id, byte(size))
	}
	return append(dst, id<<4|byte(size-1))
}
