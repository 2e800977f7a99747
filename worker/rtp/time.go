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

// Middle32 is the middle of an NTP time, in units of 1/65536 s, as report blocks
// have it (RFC 3550 section 6.4.1).
func Middle32(ntp uint64) uint32 { return uint32(ntp >> 16) }

// Bounds of a believable round trip, in units of 1/65536 s. Rounding and a clock
// that runs fast can make a short one come out below zero.
const (
	minRoundTrip = -1 << 16 / 100
	maxRoundTrip = 60 << 16
)

// RoundTrip is the round-trip time told by a report block that arrived at now, an
// NTP time of the clock that dates our sender reports (RFC 3550 section 6.4.1). ok
// is false when the block answers no report of ours, or says nonsense.
func RoundTrip(now uint64, rep ReceptionReport) (rtt time.Duration, ok bool) {
	if rep.LastSenderReport == 0 {
		return 0, false
	}
	units := int32(Middle32(now) - rep.LastSenderReport - rep.Delay)
	if units < minRoundTrip || units > maxRoundTrip {
		return 0, false
	}
	return time.Duration(max(units, 0)) * time.Second >> 16, true
}

// AbsSendTime converts a time in Unix nanoseconds to the 24 bits of the
// abs-send-time extension of draft-alvestrand-rmcat-remb: seconds modulo 64, 18
// bits of them behind the point.
func AbsSendTime(unixNanos int64) uint32 {
	return uint32(NTP(unixNanos)>>14) & 0xffffff
}
