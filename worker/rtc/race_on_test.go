//go:build race

package rtc

// raceDetector: the race detector makes sync.Pool forget at random, so that counts
// of allocations mean nothing.
const raceDetector = true
