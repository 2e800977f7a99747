package worker

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/worker/rtc"
)

// memoryInterval is how often a worker looks whether users came or left.
const memoryInterval = 2 * time.Second

// warmBytes is about what a successor's objects take for 200 users.
const warmBytes = 9 << 20

// warmHeap gives the heap of a process that waits for a slot its memory before it is
// needed: page faults were half the time that a successor took to build what it goes on
// with. There are no collections, which would give the memory back, until collect is
// called; release gives it back then.
func warmHeap() (collect func(release bool)) {
	runtime.MemProfileRate = 0 // nobody can ask for the profile
	percent := debug.SetGCPercent(-1)
	pages := make([]byte, warmBytes)
	for i := 0; i < len(pages); i += os.Getpagesize() {
		pages[i] = 1
	}
	runtime.KeepAlive(pages)
	runtime.GC()
	return func(release bool) {
		debug.SetGCPercent(percent)
		if release {
			debug.FreeOSMemory()
		}
	}
}

// releaseMemory gives memory that nobody needs any more back to the system: once
// nobody has come or left for a while, the garbage of what went before; once the last
// transport is gone, the log of sent packets, too. The collection runs beside the media
// loop, which has the higher priority and allocates nothing. It returns when ctx ends.
func releaseMemory(ctx context.Context, loop *rtc.Loop, log *slog.Logger) {
	ticker := time.NewTicker(memoryInterval)
	defer ticker.Stop()
	var last, released population
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		usage, err := loop.Usage(ctx)
		if err != nil {
			continue // a loop too busy to tell has users
		}
		now := population{usage.Transports, usage.Producers, usage.Consumers}
		settled := now == last
		last = now
		if !settled || now == released {
			continue
		}
		if now.transports == 0 {
			if _, err := loop.ReleaseBuffers(ctx); err != nil && ctx.Err() == nil {
				log.Warn("memory of the past load is kept", obs.Err(err))
			}
		}
		if err := loop.ForgetDeclared(ctx); err != nil {
			continue // as above
		}
		// Pools of the libraries keep what they hold for one collection more.
		runtime.GC()
		debug.FreeOSMemory()
		released = now
	}
}

// population is how many objects a loop has.
type population struct{ transports, producers, consumers int }
