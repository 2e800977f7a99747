// Package handshake owns DTLS 1.2 handshakes: it runs them beside the media
// loop and hands back SRTP keys and the serialised state.
//
// A Pool runs a bounded number at a time, each on a goroutine of its own over a
// packet connection that the media loop feeds; more wait in a bounded queue. A
// handshake in the server role takes a place only when the peer's first record
// is there. No live connection object stays behind: what may still be needed of
// a finished handshake is its last flight (to be repeated) and its state (to
// check alerts). Pool.Close stops everything and waits.
//
// Records are fed only after ICE has validated their sender's address, so
// there is no cookie exchange (RFC 6347 section 4.2.1); it would cost a round
// trip. Records that a stranger can forge, plaintext alerts above all, are
// ignored.
//
// It must not import anything of ours but internal packages.
package handshake
