//go:build !linux

package worker

// refuseHugePages does nothing: only Linux has to be told.
func refuseHugePages() error { return nil }
