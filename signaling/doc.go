// Package signaling owns the WebSocket of the clients: who may open one, its
// limits and heartbeats, the order of requests and answers, and its end. What a
// request means is not its business: a Backend answers it.
//
// A socket has three goroutines. The reader is the HTTP handler's own: it
// decodes frames, answers pings and queues the rest. The runner validates the
// socket, joins it and hands its requests to the Backend one at a time. The
// writer is the only one that writes. ServeHTTP returns after all three ended,
// and Server.Close waits for that.
//
// The credential of a client is in the URL of its upgrade request. The package
// logs neither the URL nor the credential, and a user id that is the credential
// is logged as a digest.
//
// It must not import the supervisor, a worker, gRPC or the interop package.
package signaling
