// Package process owns the worker processes: one keeper per slot that starts its
// worker, pins it to a CPU, hands it its sockets, watches it, and starts it again.
//
// Goroutines: one keeper per slot, one that holds a warm spare ready, and while a
// worker runs its monitor's. Pool.Run starts them and returns after all of them
// and all processes have ended. The package must not import worker, signaling or
// interop.
package process
