package supervisor

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/supervisor/process"
)

// takeoverCause is why another process went on, as a metric names it.
type takeoverCause int

const (
	byCrash takeoverCause = iota
	byHang
	byRestart
	takeoverCauses
)

func (c takeoverCause) String() string {
	return [takeoverCauses]string{"crash", "hang", "restart"}[c]
}

func causeOf(text string) takeoverCause {
	switch {
	case text == process.CauseRestart:
		return byRestart
	case strings.HasPrefix(text, "hung"):
		return byHang
	}
	return byCrash
}

// takeovers counts what another process went on with, by slot and cause. It is made
// with the backend; any goroutine may use it.
type takeovers struct {
	counts  [][takeoverCauses]atomic.Uint64 // by slot
	dropped atomic.Uint64                   // transports
}

func newTakeovers(slots int) *takeovers {
	return &takeovers{counts: make([][takeoverCauses]atomic.Uint64, slots)}
}

func (t *takeovers) note(e process.Event) {
	if int(e.Slot) < len(t.counts) {
		t.counts[e.Slot][causeOf(e.Cause)].Add(1)
	}
	t.dropped.Add(uint64(max(e.Resumed.Dropped, 0)))
}

// takenOver handles a worker that another process went on with. Clients learn of what
// was lost alone, the main server of every crash.
func (b *backend) takenOver(ctx context.Context, e process.Event) {
	b.takeovers.note(e)
	if causeOf(e.Cause) != byRestart {
		b.setFault(fault{e.Slot, crashed}, fmt.Sprintf("worker %d: %s; another process went on", e.Slot, e.Cause))
		b.setFault(fault{e.Slot, crashed}, "")
	}
	b.reconcileLater(ctx, e.Slot, e.Epoch)
}

// reconcileNow compares with whatever state the slot has.
func (b *backend) reconcileNow(ctx context.Context, slot ident.Slot) {
	if _, epoch, ok := b.workers.Client(slot); ok {
		b.reconcileLater(context.WithoutCancel(ctx), slot, epoch)
	}
}
