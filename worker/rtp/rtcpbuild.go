package rtp

import "encoding/binary"

// maxCount is what the count field of an RTCP packet can say.
const maxCount = 31

// AppendSenderReport appends a sender report with the first 31 report blocks at
// most (RFC 3550 section 6.4.1).
func AppendSenderReport(dst []byte, s SenderInfo, reports []ReceptionReport) []byte {
	reports = reports[:min(len(reports), maxCount)]
	dst, start := appendRTCPHeader(dst, TypeSenderReport, len(reports))
	dst = binary.BigEndian.AppendUint32(dst, s.SSRC)
	dst = binary.BigEndian.AppendUint64(dst, s.NTP)
	dst = binary.BigEndian.AppendUint32(dst, s.Timestamp)
	dst = binary.BigEndian.AppendUint32(dst, s.Packets)
	dst = binary.BigEndian.AppendUint32(dst, s.Octets)
	return endRTCP(appendReports(dst, reports), start)
}

// AppendReceiverReport appends a receiver report with the first 31 report blocks
// at most (RFC 3550 section 6.4.2).
func AppendReceiverReport(dst []byte, ssrc uint32, reports []ReceptionReport) []byte {
	reports = reports[:min(len(reports), maxCount)]
	dst, start := appendRTCPHeader(dst, TypeReceiverReport, len(reports))
	dst = binary.BigEndian.AppendUint32(dst, ssrc)
	return endRTCP(appendReports(dst, reports), start)
}

func appendReports(dst []byte, reports []ReceptionReport) []byte {
	for i := range reports {
		r := &reports[i]
		dst = binary.BigEndian.AppendUint32(dst, r.SSRC)
		dst = binary.BigEndian.AppendUint32(dst, uint32(r.FractionLost)<<24|uint32(r.TotalLost)&0xffffff)
		dst = binary.BigEndian.AppendUint32(dst, r.HighestSequence)
		dst = binary.BigEndian.AppendUint32(dst, r.Jitter)
		dst = binary.BigEndian.AppendUint32(dst, r.LastSenderReport)
		dst = binary.BigEndian.AppendUint32(dst, r.Delay)
	}
	return dst
}

// AppendSourceDescription appends an SDES packet with the CNAME (RFC 3550 section
// 6.5), which is cut at 255 bytes.
func AppendSourceDescription(dst []byte, ssrc uint32, cname string) []byte {
	cname = cname[:min(len(cname), 255)]
	dst, start := appendRTCPHeader(dst, TypeSourceDescription, 1)
	dst = binary.BigEndian.AppendUint32(dst, ssrc)
	dst = append(append(dst, 1, byte(len(cname))), cname...)
	dst = append(dst, 0) // the list of items ends with a null byte, then pads to a word
	for (len(dst)-start)%4 != 0 {
		dst = append(dst, 0)
	}
	return endRTCP(dst, start)
}

// AppendBye appends a BYE for the first 31 streams at most (RFC 3550 section 6.6).
func AppendBye(dst []byte, ssrcs ...uint32) []byte {
	ssrcs = ssrcs[:min(len(ssrcs), maxCount)]
	dst, start := appendRTCPHeader(dst, TypeBye, len(ssrcs))
	for _, ssrc := range ssrcs {
		dst = binary.BigEndian.AppendUint32(dst, ssrc)
	}
	return endRTCP(dst, start)
}

// AppendNack appends a generic NACK (RFC 4585 section 6.2.1) for the sequence
// numbers, which must ascend, modulo 2^16. It appends nothing for none.
func AppendNack(dst []byte, sender, media uint32, missing []uint16) []byte {
	if len(missing) == 0 {
		return dst
	}
	dst, start := appendRTCPHeader(dst, TypeTransportFeedback, FormatNack)
	dst = binary.BigEndian.AppendUint32(dst, sender)
	dst = binary.BigEndian.AppendUint32(dst, media)
	for i := 0; i < len(missing); {
		first, mask := missing[i], uint16(0)
		for i++; i < len(missing) && missing[i]-first-1 < 16; i++ {
			mask |= 1 << (missing[i] - first - 1)
		}
		dst = binary.BigEndian.AppendUint16(dst, first)
		dst = binary.BigEndian.AppendUint16(dst, mask)
	}
	return endRTCP(dst, start)
}

func appendRTCPHeader(dst []byte, kind uint8, count int) (b []byte, start int) {
	return append(dst, 0x80|byte(count&0x1f), kind, 0, 0), len(dst)
}

// endRTCP sets the length of the packet that begins at start.
func endRTCP(dst []byte, start int) []byte {
	binary.BigEndian.PutUint16(dst[start+2:], uint16((len(dst)-start)/4-1))
	return dst
}
