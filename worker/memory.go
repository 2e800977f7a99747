package worker

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/worker/rtc"
)

// memoryInterval is how often a worker looks whether its last user has left.
const memoryInterval = 2 * time.Second

// releaseMemory gives the memory of a past load back to the system, once the last
// transport is gone: a collection then disturbs nobody. It returns when ctx ends.
func releaseMemory(ctx context.Context, loop *rtc.Loop, log *slog.Logger) {
	ticker := time.NewTicker(memoryInterval)
	defer ticker.Stop()
	used := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if usage, err := loop.Usage(ctx); err != nil || usage.Transports > 0 {
			used = true // a loop too busy to tell has users
			continue
		}
		if !used {
			continue
		}
		released, err := loop.ReleaseBuffers(ctx)
		if err != nil && ctx.Err() == nil {
			log.Warn("memory of the past load is kept", obs.Err(err))
		}
		if released {
			debug.FreeOSMemory()
			used = false
		}
	}
}
