package rtp

import "time"

// ntpOffset is the number of seconds from 1900 to 1970.
const ntpOffset = 2208988800

// NTP converts a time in Unix nanoseconds to the 64-bit NTP format (RFC 3550
// section 4).
func NTP(unixNanos int64) uint64 {
	seconds, nanos := unixNanos/int64(time.Second), unixNanos%int64(time.Second)
	return uint64(seconds+ntpOffset)<<32 | uint64(nanos)<<32/uint64(time.Second)
}

// Middle32 is the middle of an NTP time: units of 1/65536 s.
func Middle32(ntp uint64) uint32 { return uint32(ntp >> 16) }

// RoundTrip is the round-trip time told by a report block that arrived at now
// (RFC 3550 section 6.4.1). ok is false when the block answers no report of ours,
// or says nonsense.
func RoundTrip(now uint64, rep ReceptionReport) (rtt time.Duration, ok bool) {
	if rep.LastSenderReport == 0 {
		return 0, false
	}
	units := int32(Middle32(now) - rep.LastSenderReport - rep.Delay)
	if units < 0 || units > 60<<16 {
		return 0, false
	}
	return time.Duration(units) * time.Second >> 16, true
}

// AbsSendTime converts a time in Unix nanoseconds to the 24 bits of the
// abs-send-time extension: seconds modulo 64 in 6.18 fixed point.
func AbsSendTime(unixNanos int64) uint32 {
	return uint32(NTP(unixNanos)>>14) & 0xffffff
}
