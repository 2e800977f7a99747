// Package rtp owns the numeric work on RTP and RTCP packets: telling protocols
// apart, reading headers in place, sequence numbers, reception statistics, and
// building reports (RFC 3550, RFC 4585, RFC 8285).
//
// It is pure: no socket, no goroutine, no clock; times are arguments. Nothing on
// the packet path allocates. It must not import other packages of the worker.
package rtp
