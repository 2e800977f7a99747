package supervisor

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/interop"
	interopwire "github.com/dspeak/sfu/interop/wire"
	"github.com/dspeak/sfu/supervisor/process"
)

// silence takes the news when there is no main server.
type silence struct{}

func (silence) Send(interopwire.Message) {}

// fault names what may be wrong with a slot.
type fault struct {
	slot ident.Slot
	kind faultKind
}

type faultKind uint8

const (
	crashed faultKind = iota + 1
	overloaded
	unannounced // of no slot
)

// faults is what the last status said.
type faults struct {
	mu   sync.Mutex
	text map[fault]string // guarded by mu
}

// setFault notes a fault, "" for its end, and tells the main server when that
// changed something.
func (b *backend) setFault(f fault, text string) {
	b.faults.mu.Lock()
	defer b.faults.mu.Unlock()
	if b.faults.text[f] == text {
		return
	}
	if text == "" {
		delete(b.faults.text, f)
	} else {
		if b.faults.text == nil {
			b.faults.text = map[fault]string{}
		}
		b.faults.text[f] = text
	}
	b.presence.Send(b.faults.statusLocked())
}

func (f *faults) statusLocked() interopwire.SfuStatus {
	if len(f.text) == 0 {
		return interopwire.SfuStatus{Status: interopwire.StatusOK, Details: "all workers serve"}
	}
	order := slices.SortedFunc(maps.Keys(f.text), func(a, b fault) int {
		return cmp.Or(cmp.Compare(a.slot, b.slot), cmp.Compare(a.kind, b.kind))
	})
	texts := make([]string, 0, len(order))
	for _, key := range order {
		texts = append(texts, f.text[key])
	}
	return interopwire.SfuStatus{Status: interopwire.StatusError, Details: strings.Join(texts, "; ")}
}

// Snapshot implements interop.Backend.
func (b *backend) Snapshot() (interopwire.SfuStatus, []interop.ChannelUsers) {
	b.faults.mu.Lock()
	status := b.faults.statusLocked()
	b.faults.mu.Unlock()
	b.registry.mu.Lock()
	defer b.registry.mu.Unlock()
	channels := make([]interop.ChannelUsers, 0, len(b.registry.channels))
	for _, ch := range b.registry.channels {
		users := interop.ChannelUsers{ChannelID: ch.id}
		for _, u := range ch.users {
			users.UserIDs = append(users.UserIDs, u.id)
		}
		channels = append(channels, users)
	}
	for _, id := range b.registry.emptied {
		if b.registry.channels[id] == nil {
			channels = append(channels, interop.ChannelUsers{ChannelID: id})
		}
	}
	return status, channels
}

// ForceDisconnect implements interop.Backend.
func (b *backend) ForceDisconnect(ctx context.Context, userID ident.UserID, channelID ident.ChannelID, reason string) error {
	b.kick(ctx, userID, channelID, reason)
	return nil
}

const (
	overloadAt       = 0.9  // share of a CPU at which a worker is overloaded
	overloadUntil    = 0.75 // and below which it is not any more
	overloadReadings = 5    // in a row, a second apart
)

// overload tells a lasting overload from a peak.
type overload struct {
	on    bool
	count int // readings in a row that speak for a change
}

// take adds a reading and says whether the worker is overloaded.
func (o *overload) take(share float64) bool {
	change := share >= overloadAt
	if o.on {
		change = share < overloadUntil
	}
	if !change {
		o.count = 0
		return o.on
	}
	if o.count++; o.count >= overloadReadings {
		o.on, o.count = !o.on, 0
	}
	return o.on
}

const (
	loadInterval   = time.Second
	unusedInterval = 15 // of the former
)

// keepHouse watches the workers' load, drops unused transports and ends quarantines
// until ctx ends.
func (b *backend) keepHouse(ctx context.Context) {
	ticker := time.NewTicker(loadInterval)
	defer ticker.Stop()
	loads := map[ident.Slot]*overload{}
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			b.watchLoad(loads)
			if n%unusedInterval == 0 {
				b.dropUnused(ctx, now)
				b.registry.endQuarantines(now)
			}
		}
	}
}

// watchLoad takes one reading of every worker.
func (b *backend) watchLoad(loads map[ident.Slot]*overload) {
	for _, w := range b.workers.Workers() {
		o := loads[w.Slot]
		if o == nil || w.State != process.StateReady { // a new process starts anew
			o = &overload{}
			loads[w.Slot] = o
		}
		text := ""
		if o.take(w.Usage.GetCpuShare()) {
			text = fmt.Sprintf("worker %d: overloaded", w.Slot)
		}
		b.setFault(fault{w.Slot, overloaded}, text)
	}
}
