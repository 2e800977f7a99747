// Package stun owns STUN binding requests as an ICE-lite agent needs them
// (RFC 8489, RFC 8445): parsing in place, checking, and answering without
// allocation.
//
// It is pure: no socket, no goroutine, no clock. It must not import other
// packages of the worker.
package stun
