// Package lapse measures time limits that run only while this process runs: a host that
// is paused, a container that is frozen and a process that is stopped do not use them up.
//
// A limit is counted in slices. A slice that ends late counts once, however late it is, so
// a pause costs at most one slice of the limit. The package keeps no state of its own and
// starts no goroutine that outlives its timer. It must not import anything of ours.
package lapse
