//go:build !linux

package rtc

// raisePriority does nothing: only Linux has priorities of single threads.
func raisePriority() error { return nil }

// threadID is unknown.
func threadID() int { return 0 }

// nameThread does nothing.
func nameThread(string) error { return nil }
