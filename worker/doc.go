// Package worker owns a worker process: it takes its slot over the handoff
// socket, runs the media loop, and serves the control surface over gRPC.
//
// Goroutines: the media loop, the gRPC server, the event hub, the health and the
// loss reporter, and the watch on the handoff socket. Run starts them and returns after all have
// ended. The package must not import supervisor, signaling or interop.
package worker
