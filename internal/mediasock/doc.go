// Package mediasock opens the media sockets of a worker slot: UDP and TCP on
// one port of one address family.
//
// It starts no goroutine. The supervisor opens the sockets and hands them to
// workers, so that they outlive any worker. It must not import worker packages.
package mediasock
