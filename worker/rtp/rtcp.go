package rtp

import (
	"encoding/binary"
	"fmt"

	"github.com/dspeak/sfu/internal/errs"
)

// RTCP packet types (RFC 3550 section 12.1, RFC 4585 section 6.1).
const (
	TypeSenderReport      = 200
	TypeReceiverReport    = 201
	TypeSourceDescription = 202
	TypeBye               = 203
	TypeTransportFeedback = 205
)

// Formats of transport-layer feedback (RFC 4585 section 6.2, and the draft of
// transport-wide congestion control).
const (
	FormatNack        = 1
	FormatTransportCC = 15
)

const (
	rtcpHeader   = 4
	reportSize   = 24
	senderSize   = 24 // SSRC and sender information
	feedbackSize = 8  // SSRCs of sender and media

	maxTotalLost = 1<<23 - 1
	minTotalLost = -1 << 23
)

// RTCPPacket is one packet of a compound. It aliases the packet.
type RTCPPacket struct {
	Type uint8
	// Count is the count or format field.
	Count uint8
	// Body is what follows the common header, without padding.
	Body []byte
}

var errRTCP = fmt.Errorf("rtcp packet malformed: %w", errs.ErrInvalid)

// NextRTCP cuts the first packet off a compound (RFC 3550 section 6.1), which may
// be of reduced size (RFC 5506). Malformed input is an error that wraps
// errs.ErrInvalid.
func NextRTCP(b []byte) (p RTCPPacket, rest []byte, err error) {
	if len(b) < rtcpHeader || b[0]>>6 != 2 {
		return p, nil, errRTCP
	}
	size := rtcpHeader + 4*int(binary.BigEndian.Uint16(b[2:]))
	if size > len(b) {
		return p, nil, errRTCP
	}
	p = RTCPPacket{Type: b[1], Count: b[0] & 0x1f, Body: b[rtcpHeader:size]}
	// RFC 3550 section 6.4.1 allows padding in the last packet only, but browsers
	// pad transport-wide feedback wherever it stands.
	if b[0]&0x20 != 0 {
		if len(p.Body) == 0 {
			return p, nil, errRTCP
		}
		padding := int(p.Body[len(p.Body)-1])
		if padding == 0 || padding > len(p.Body) {
			return p, nil, errRTCP
		}
		p.Body = p.Body[:len(p.Body)-padding]
	}
	return p, b[size:], nil
}

// SSRC is the packet's sender, 0 when it is too short to name one.
func (p RTCPPacket) SSRC() uint32 { return p.word(0) }

func (p RTCPPacket) word(offset int) uint32 {
	if len(p.Body) < offset+4 {
		return 0
	}
	return binary.BigEndian.Uint32(p.Body[offset:])
}

// SenderInfo is what a sender report says of its own stream (RFC 3550 section
// 6.4.1).
type SenderInfo struct {
	SSRC      uint32
	NTP       uint64 // when the report was made
	Timestamp uint32 // the same instant on the media clock
	Packets   uint32
	Octets    uint32 // of payload
}

// SenderInfo returns the sender information of a sender report, false when the
// packet is none or too short.
func (p RTCPPacket) SenderInfo() (SenderInfo, bool) {
	if p.Type != TypeSenderReport || len(p.Body) < senderSize {
		return SenderInfo{}, false
	}
	return SenderInfo{
		SSRC: p.SSRC(), NTP: binary.BigEndian.Uint64(p.Body[4:]), Timestamp: p.word(12),
		Packets: p.word(16), Octets: p.word(20),
	}, true
}

// ReceptionReport is a report block (RFC 3550 section 6.4.1).
type ReceptionReport struct {
	SSRC             uint32
	FractionLost     uint8 // in 1/256
	TotalLost        int32 // 24 bits
	HighestSequence  uint32
	Jitter           uint32 // units of the media clock
	LastSenderReport uint32 // middle of the NTP time
	Delay            uint32 // in 1/65536 s
}

// Reports is the number of report blocks of a sender or receiver report.
func (p RTCPPacket) Reports() int {
	start := p.reportsAt()
	if start < 0 || len(p.Body) < start {
		return 0
	}
	return min(int(p.Count), (len(p.Body)-start)/reportSize)
}

func (p RTCPPacket) reportsAt() int {
	switch p.Type {
	case TypeSenderReport:
		return senderSize
	case TypeReceiverReport:
		return 4
	default:
		return -1
	}
}

// Report returns report block i, 0 <= i < Reports().
func (p RTCPPacket) Report(i int) ReceptionReport {
	b := p.Body[p.reportsAt()+i*reportSize:]
	lost := binary.BigEndian.Uint32(b[4:])
	return ReceptionReport{
		SSRC: binary.BigEndian.Uint32(b), FractionLost: uint8(lost >> 24),
		TotalLost:       int32(lost<<8) >> 8, // sign of 24 bits
		HighestSequence: binary.BigEndian.Uint32(b[8:]), Jitter: binary.BigEndian.Uint32(b[12:]),
		LastSenderReport: binary.BigEndian.Uint32(b[16:]), Delay: binary.BigEndian.Uint32(b[20:]),
	}
}

// Byes is the number of SSRCs that a BYE names (RFC 3550 section 6.6).
func (p RTCPPacket) Byes() int {
	if p.Type != TypeBye {
		return 0
	}
	return min(int(p.Count), len(p.Body)/4)
}

// Bye returns SSRC i of a BYE, 0 <= i < Byes().
func (p RTCPPacket) Bye(i int) uint32 { return p.word(4 * i) }

// Nacks is the number of pairs of a generic NACK (RFC 4585 section 6.2.1).
func (p RTCPPacket) Nacks() int {
	if p.Type != TypeTransportFeedback || p.Count != FormatNack || len(p.Body) < feedbackSize {
		return 0
	}
	return (len(p.Body) - feedbackSize) / 4
}

// Nack returns pair i, 0 <= i < Nacks(): a missing sequence number, and a mask of
// which of the following sixteen are missing, too.
func (p RTCPPacket) Nack(i int) (seq, following uint16) {
	w := p.word(feedbackSize + 4*i)
	return uint16(w >> 16), uint16(w)
}

// MediaSSRC is the stream that feedback is about, 0 when there is none.
func (p RTCPPacket) MediaSSRC() uint32 {
	if p.Type != TypeTransportFeedback {
		return 0
	}
	return p.word(4)
}
