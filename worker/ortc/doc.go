// Package ortc owns mediasoup's capability negotiation for audio: what a router
// offers, how a producer's parameters map to the router's, and what a consumer
// gets. The rules are those of mediasoup v3.
//
// Everything in it is a pure function of its arguments: no goroutine, no socket,
// no clock, no shared state. It must not import other packages of the worker.
package ortc
