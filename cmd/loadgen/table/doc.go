// Package table owns the table of measurements: it starts a supervisor of its own
// with one worker on loopback, lets package load measure one load after the other
// on it, each in turns with the bare sending loop, and tells what came out.
//
// It starts no goroutine but the one that waits for the supervisor, which ends
// before Run returns.
package table
