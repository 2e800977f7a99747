// Package ledger owns the memory that a worker's successor goes on with: what calls
// declared, and what was earned while media flowed, keys and sequence numbers
// included. The memory is a file of package ledgerfile, which the supervisor holds
// while workers come and go, or private to a process that needs none.
//
// # Records and blobs
//
// Objects are records of fixed size without pointers, in one table per kind; they
// name each other by Ref. What has no fixed size (parameters as JSON, DTLS state,
// app data) is a blob: a chain of blocks. The file is sparse: a table costs memory
// up to the highest record that was ever used.
//
// # A kill at any instruction
//
// The process may end between any two stores, and what was stored before is there.
// So a record is valid from one atomic store of its state on, and gone from one
// other on; a blob is replaced by one store of its head; a replay window's stores
// are in such an order that each leaves a valid window. Who writes: children before
// their parent are freed, parents before children are made. Free lists are the
// process's own, made anew by Open. What is freed is zeroed, and Open zeroes what a
// killed process left unfinished.
//
// # Trust
//
// Open believes nothing: a length, link or chain that cannot be is counted by its
// reason, and the record dropped with what hangs on it. Memory of another layout is
// an errs.ErrUnsupported.
//
// A Ledger belongs to one goroutine. It starts none and imports nothing of the
// project but errs, ledgerfile and the shape of rtp.Reception. Package unsafe is
// used in memory.go alone.
package ledger
