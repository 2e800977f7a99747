// Package origin owns what an Origin header means: the form in which two
// spellings of one origin are equal (RFC 6454), and a list of those that may open
// a socket.
//
// It starts no goroutine and imports nothing of the project but errs.
package origin
