// Package wire owns what travels on the signaling WebSocket: the requests of a
// client and how they are decoded, the messages of the server and how they are
// encoded, the text of every error a client can see, and the reasons for which
// a socket is closed.
//
// Decoding is strict about shape and lenient about extras: names are
// case-sensitive, unknown fields are ignored, of a repeated name the last
// counts, and nesting is bounded. Nothing in it closes a socket: bad input
// becomes an Error that the client is told.
//
// The package has no sockets, no goroutines and no clock, and every function
// may be called from any goroutine.
package wire
