//go:build !linux

package rtc

// newPages returns n bytes.
func newPages(n int) ([]byte, error) { return make([]byte, n), nil }

// freePages leaves the memory to the collector.
func freePages([]byte) {}

// releasePages does nothing: what madvise(2) means differs elsewhere.
func releasePages([]byte) error { return nil }
