//go:build amd64 || arm64

// Package prefetch asks the CPU for memory that will be needed soon. The state of a
// listener leaves the caches between two packets of a speaker, 20 ms apart, and lies in
// several places: waiting for each costs as much as protecting the packet.
package prefetch

import "unsafe"

// LineSize is that of a cache line in bytes.
const LineSize = 64

// Lines asks for n cache lines from that of p on. It neither waits nor faults, whatever p
// is. n is at least 1.
//
//go:noescape
func Lines(p unsafe.Pointer, n int)
