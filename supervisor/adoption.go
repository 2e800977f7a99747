package supervisor

import (
	"context"
	"sync"
	"time"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/supervisor/process"
)

// adoptions are the slots that go on with a former supervisor's state, until each
// serves or has lost it. Any goroutine may use it.
type adoptions struct {
	// alone is since when nobody was those workers' supervisor; the zero time: not known.
	alone time.Time
	slots []ident.Slot

	mu   sync.Mutex
	left map[ident.Slot]struct{} // guarded by mu; nil: the registry is built
	done chan struct{}           // closed when none is left
	// built is closed when the registry has what they told.
	built chan struct{}
}

// newAdoptions expects the slots of what is left of a former supervisor.
func newAdoptions(remains []*process.Remains) *adoptions {
	a := &adoptions{left: map[ident.Slot]struct{}{}, done: make(chan struct{}), built: make(chan struct{})}
	for _, r := range remains {
		if !r.GoesOn() {
			continue
		}
		a.slots = append(a.slots, r.Slot)
		a.left[r.Slot] = struct{}{}
		if !r.Alone.IsZero() && (a.alone.IsZero() || r.Alone.Before(a.alone)) {
			a.alone = r.Alone
		}
	}
	if len(a.left) == 0 {
		close(a.done)
		close(a.built)
	}
	return a
}

// note hears of a slot. late: the registry was built without it.
func (a *adoptions) note(slot ident.Slot) (late bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.left == nil {
		return true
	}
	if _, expected := a.left[slot]; expected {
		delete(a.left, slot)
		if len(a.left) == 0 {
			close(a.done)
		}
	}
	return false
}

// await waits for all slots, until ctx ends. Those that come later are late.
func (a *adoptions) await(ctx context.Context) {
	select {
	case <-a.done:
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left = nil
}
