// Package faults owns a call whose servers are killed while people talk: it starts
// a supervisor of its own, joins users with the clients of the load generator,
// strikes worker and supervisor processes in a random but repeatable order, and
// measures what everyone in the call noticed.
//
// One goroutine receives for all users (load.Clients), one sends for all speakers
// (pacer), each user has one for its signaling and one that reads its socket, and
// the reaper waits for orphans. Run starts them and waits for all of them. Run
// makes the process the reaper of its orphans: it is for a program of its own.
//
// The package must not import the supervisor or the worker's media packages: what
// it judges, it sees from outside.
package faults
