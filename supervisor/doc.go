// Package supervisor owns the voice backend's control side: the registry of
// channels, users and their media objects, what each signaling request means, the
// link between registry and workers, and the wiring of all parts.
//
// Run starts every part and returns after all have ended. Requests run on their
// session's goroutine. One goroutine each follows the workers' events, keeps house,
// paces the pictures of crowds, looks announced names up, and serves operators; they
// end with Run's inner context. Clean-ups that nobody waits for, and refusals of a
// full public port, have goroutines of their own, for which Run waits. The package
// must not import worker, pion, or a WebSocket library.
//
// The registry has one mutex, a leaf: under it there is map work and
// Session.Send, which never blocks and keeps the order of events that of the
// changes. Control calls to workers are made without it.
package supervisor
