// Package rtc owns the media of a worker: one loop and the objects that live on
// it, in mediasoup's tree: router > transport > producer | consumer.
//
// # The loop
//
// Loop.Run locks its goroutine to an operating-system thread. A turn of the loop
// waits in one raw ppoll, reads batches of datagrams and TCP frames, tells them
// apart by their first byte (RFC 7983), answers STUN, hands DTLS records to their
// handshakes, unprotects SRTP in place, fans it out, protects each copy straight
// into the send ring and writes what was collected, one send per destination.
// Nothing on that path allocates, locks, logs or walks a map. In silence, when clients
// send only their checks, it leaves those lying for 50 ms at a time.
//
// # Who may call what
//
// Every exported method of Loop may be called from any goroutine. Calls become
// closures in one bounded mailbox; the loop runs them in order, between batches,
// and the caller gets the result when its closure ran. All objects belong to the
// loop alone and have no locks. DTLS handshakes run on goroutines of package
// handshake and come back as mailbox entries.
//
// # Numbers that must never repeat
//
// No SRTP or SRTCP index may protect two different packets under one key. An
// outgoing extended sequence number is the authenticated incoming one plus an
// offset that is recorded before its first use (type seqMap). Rollover counters
// are given to the SRTP context explicitly, packet by packet. A retransmission is
// the identical protected packet out of the send ring. SRTCP indexes come from
// one counter per transport.
//
// # State
//
// Declared state is what calls made (parameters, credentials); earned state
// appeared while media flowed (keys, addresses, sequence numbers). They live in
// separate structs of each object, so that each can be exported on its own.
package rtc
