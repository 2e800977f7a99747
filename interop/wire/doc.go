// Package wire owns what travels on the WebSocket between the backend and the
// main server: the messages, how they are encoded, and how those of the main
// server are decoded and checked.
//
// It has no sockets, no goroutines and no clock, and every function may be
// called from any goroutine.
package wire
