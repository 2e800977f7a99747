// Package errs owns the sentinel errors that the whole project wraps. Callers
// test for them with errors.Is; what was tried and on what stands in the text
// around them.
//
// It holds no state, starts no goroutine and imports nothing of the project.
package errs

import "errors"

// The sentinels. Each has one gRPC code (package status) and one meaning for a
// client of the signaling socket.
var (
	// ErrNotFound: the named object does not exist.
	ErrNotFound = errors.New("not found")
	// ErrExists: an object of that name, or with that unique property, is already there.
	ErrExists = errors.New("already exists")
	// ErrInvalid: the input breaks a rule that does not depend on state.
	ErrInvalid = errors.New("invalid")
	// ErrUnsupported: the input is well formed but the two sides have nothing in common.
	ErrUnsupported = errors.New("unsupported")
	// ErrDenied: the caller may not do this.
	ErrDenied = errors.New("denied")
	// ErrExhausted: a limit is reached.
	ErrExhausted = errors.New("exhausted")
	// ErrUnavailable: nothing can serve this now; it may be tried again.
	ErrUnavailable = errors.New("unavailable")
	// ErrClosed: the object is closing or closed.
	ErrClosed = errors.New("closed")
)
