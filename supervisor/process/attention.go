package process

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/dspeak/sfu/internal/ledgerfile"
)

const (
	// lagNoticed is how late this process must be for it to say that it stood still.
	lagNoticed = 500 * time.Millisecond
	// thawPatience is how long after that workers may still be kept from running: whoever
	// stopped the whole service lets its processes go one after another.
	thawPatience = 10 * time.Second
)

// attention knows when this process itself stood still: its host was paused, its container
// frozen, or it was stopped or got no CPU. What stood still with it is not hung. The zero
// value is ready. Any goroutine may use it. All times are on the clock of ledgerfile.Now.
type attention struct {
	looked atomic.Int64 // when it was last awake; 0: not yet
	thawed atomic.Int64 // when it last came back; 0: never
}

// look notes that this process runs, and returns when it last came back from a standstill;
// 0: never. It is called every pulseInterval.
func (a *attention) look(now int64) (thawed int64) {
	if last := a.looked.Swap(now); last != 0 && now-last >= int64(lagNoticed) {
		a.thawed.Store(now)
	}
	return a.thawed.Load()
}

// thawing reports whether this process came back a moment ago.
func (a *attention) thawing(now int64) bool {
	thawed := a.look(now)
	return thawed != 0 && now-thawed < int64(thawPatience)
}

// run looks until ctx ends.
func (a *attention) run(ctx context.Context) {
	ticker := time.NewTicker(pulseInterval)
	defer ticker.Stop()
	for {
		a.look(ledgerfile.Now())
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
