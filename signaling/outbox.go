package signaling

import (
	"slices"
	"sync"
	"time"

	"github.com/dspeak/sfu/signaling/wire"
)

// ending says how a socket is being closed.
type ending struct {
	wire.CloseCause
	// by is when the last write must be done.
	by time.Time
	// drop leaves what is queued unwritten.
	drop bool
}

// outbox is what waits to be written. Any goroutine puts, the writer takes.
type outbox struct {
	maxFrames, maxBytes int
	// wake has a token when there may be something new for the writer.
	wake chan struct{}

	mu     sync.Mutex // a leaf lock
	frames []frame    // guarded by mu
	// counted and bytes are how many frames wait that are not replaceable, and how large
	// they are; guarded by mu.
	counted, bytes int
	end            *ending // set once; guarded by mu
	// urgent: a frame waits that is not patient. collecting: the writer waits for more
	// patient frames. Both are guarded by mu.
	urgent, collecting bool
}

func newOutbox(maxFrames, maxBytes int) *outbox {
	return &outbox{maxFrames: maxFrames, maxBytes: maxBytes, wake: make(chan struct{}, 1)}
}

// put queues a frame. It says false when there is no room; a frame after the
// end is dropped. A replaceable frame takes the place of one of its kind that waits, at
// the end of the queue, and always has room: at most one of each kind waits.
func (o *outbox) put(f frame) bool {
	o.mu.Lock()
	if o.end != nil {
		o.mu.Unlock()
		return true
	}
	switch {
	case f.replaceable:
		o.dropReplacedLocked(f.text.Kind())
	case o.counted >= o.maxFrames || o.bytes+f.size() > o.maxBytes:
		o.mu.Unlock()
		return false
	default:
		o.counted++
		o.bytes += f.size()
	}
	o.frames = append(o.frames, f)
	o.urgent = o.urgent || !f.patient
	sleeps := o.collecting && !o.urgent
	o.mu.Unlock()
	if !sleeps {
		o.signal()
	}
	return true
}

// collect reports whether all that waits is patient, and if so has the writer left
// alone until something else comes or it takes.
func (o *outbox) collect() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.collecting = !o.urgent && o.end == nil
	return o.collecting
}

// dropReplacedLocked drops the replaceable frame of that kind that waits, if any.
func (o *outbox) dropReplacedLocked(kind wire.Kind) {
	for i, f := range slices.Backward(o.frames) {
		if f.replaceable && f.text.Kind() == kind {
			o.frames = slices.Delete(o.frames, i, i+1)
			return
		}
	}
}

// finish sets how the socket ends. Only the first call counts; it says true.
func (o *outbox) finish(e ending) bool {
	o.mu.Lock()
	first := o.end == nil
	if first {
		o.end = &e
		if e.drop {
			o.frames, o.counted, o.bytes = nil, 0, 0
		}
	}
	o.mu.Unlock()
	o.signal()
	return first
}

// maxKeptFrames bounds the memory that an idle socket keeps after a burst.
const maxKeptFrames = 256

// take returns all that waits, and the end when there is one: nothing follows
// it. The memory of spare, which the writer is done with, is used again.
func (o *outbox) take(spare []frame) ([]frame, *ending) {
	if cap(spare) > maxKeptFrames {
		spare = nil
	}
	clear(spare)
	o.mu.Lock()
	defer o.mu.Unlock()
	frames := o.frames
	o.frames, o.counted, o.bytes = spare[:0], 0, 0
	o.urgent, o.collecting = false, false
	return frames, o.end
}

// ended is how the socket ends, or nil.
func (o *outbox) ended() *ending {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.end
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}
