package worker

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/dspeak/sfu/worker/rtc"
)

// memoryInterval is how often a worker looks whether its last user has left.
const memoryInterval = 2 * time.Second

// releaseMemory gives the memory of a past load back to the system, once the last
// transport is gone: a collection then disturbs nobody. It returns when ctx ends.
func releaseMemory(ctx context.Context, loop *rtc.Loop) {
	ticker := time.NewTicker(memoryInterval)
	defer ticker.Stop()
	used := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		usage, err := loop.Usage(ctx)
		switch {
		case err != nil || usage.Transports > 0: // a loop too busy to tell has users
			used = true
		case used:
			debug.FreeOSMemory()
			used = false
		}
	}
}
