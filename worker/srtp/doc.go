// Package srtp protects what one party of a session sends, and opens what the other
// does: RTP and RTCP packets in place, under indexes that the caller chooses and never
// uses twice.
//
// pion/srtp looks up states by SSRC and parses the header for each packet; with one
// speaker and hundreds of listeners those tables are as much work as the cipher
// (BenchmarkSeal). Here nothing is kept but keys. It does no I/O and has no clock.
package srtp
