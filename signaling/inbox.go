package signaling

import (
	"context"
	"sync"

	"github.com/dspeak/sfu/signaling/wire"
)

// item is one message of the client: a request, or the answer to what is none.
type item struct {
	req   wire.Request
	fault *wire.Error
	size  int // bytes of the message
}

// inbox is what waits for the runner, in order. The reader puts, the runner takes.
type inbox struct {
	maxItems, maxBytes int
	wake               chan struct{}

	mu    sync.Mutex // a leaf lock
	items []item     // guarded by mu
	bytes int        // of items; guarded by mu
}

func newInbox(maxItems, maxBytes int) *inbox {
	return &inbox{maxItems: maxItems, maxBytes: maxBytes, wake: make(chan struct{}, 1)}
}

// Bounds of what waits before a socket is validated: until then anybody can fill it.
const (
	maxEarlyItems = 256
	maxEarlyBytes = 256 << 10
)

// put says false when there is no room.
func (b *inbox) put(it item, joined bool) bool {
	items, bytes := b.maxItems, b.maxBytes
	if !joined {
		items, bytes = min(items, maxEarlyItems), min(bytes, maxEarlyBytes)
	}
	b.mu.Lock()
	if len(b.items) >= items || b.bytes+it.size > bytes {
		b.mu.Unlock()
		return false
	}
	b.items = append(b.items, it)
	b.bytes += it.size
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return true
}

// next waits for the oldest item; it says false when ctx has ended.
func (b *inbox) next(ctx context.Context) (item, bool) {
	for ctx.Err() == nil {
		if it, ok := b.pop(); ok {
			return it, true
		}
		select {
		case <-b.wake:
		case <-ctx.Done():
		}
	}
	return item{}, false
}

func (b *inbox) pop() (item, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.items) == 0 {
		return item{}, false
	}
	it := b.items[0]
	b.items[0] = item{}
	b.items = b.items[1:]
	if len(b.items) == 0 {
		b.items = nil
	}
	b.bytes -= it.size
	return it, true
}
