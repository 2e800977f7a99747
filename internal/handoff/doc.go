// Package handoff owns the contract between the supervisor and a worker process:
// one inherited socket over which the worker says hello, gets its settings and
// media sockets, and says that it is ready; and the exit codes.
//
// A worker that said hello and got no settings yet is a warm spare. The package
// starts no goroutine. It imports only identifiers and errors of the project.
package handoff
