// Package process owns the worker processes: one keeper per slot that starts its
// worker, pins it to a CPU, hands it its sockets, watches it, and starts it again.
// Under a CPU quota that is less than the affinity mask, no worker is pinned.
//
// Goroutines: one keeper per slot, one that holds a warm spare ready, one that notes
// when this process itself stood still (attention), while a worker runs its monitor's,
// and one that waits for each process's end. Pool.Run starts them and returns after
// all of them and all processes have ended. The package must not import worker, signaling or
// interop.
package process
