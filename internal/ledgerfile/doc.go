// Package ledgerfile owns the file behind a worker's ledger: its making, its mapping
// and its first page, through which a supervisor sees whether the worker lives.
// What the other pages hold is the worker's own (package worker/ledger).
//
// The file is anonymous memory (memfd_create(2)): it never touches a disk, belongs
// to this user alone and is left out of core dumps. It starts no goroutine and
// imports nothing of the project but errs.
package ledgerfile
