// Package handshake owns DTLS 1.2 handshakes: it runs them beside the media
// loop and hands back SRTP keys and the serialised state.
//
// A Pool runs a bounded number at a time, each on its own goroutine over a
// packet connection that is fed by the media loop. No live connection object
// stays after a handshake. Pool.Close stops all and waits.
//
// It must not import anything of ours but internal packages.
package handshake
