// Package interop owns the connection to the main server: the HTTP calls that
// validate a socket and fetch the ICE servers (API), and the WebSocket that
// carries presence one way and kicks the other (Link).
//
// Link.Run dials, keeps the socket up and returns when its context ends, after
// its reader and writer goroutines ended. API.PollICEServers runs in the
// caller's goroutine until its context ends.
//
// It must not import the supervisor, a worker, gRPC or the signaling package.
package interop
