//go:build !linux

package rtc

// releasePages does nothing: what madvise(2) means differs elsewhere.
func releasePages([]byte) error { return nil }
