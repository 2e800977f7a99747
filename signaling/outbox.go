package signaling

import (
	"sync"
	"time"

	"github.com/dspeak/sfu/signaling/wire"
)

// frame is one WebSocket message or control frame to be written.
type frame struct {
	kind int // websocket.TextMessage or websocket.PongMessage
	data []byte
}

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
	bytes  int        // of frames; guarded by mu
	end    *ending    // set once; guarded by mu
}

func newOutbox(maxFrames, maxBytes int) *outbox {
	return &outbox{maxFrames: maxFrames, maxBytes: maxBytes, wake: make(chan struct{}, 1)}
}

// put queues a frame. It says false when there is no room; a frame after the
// end is dropped.
func (o *outbox) put(f frame) bool {
	o.mu.Lock()
	if o.end != nil {
		o.mu.Unlock()
		return true
	}
	if len(o.frames) >= o.maxFrames || o.bytes+len(f.data) > o.maxBytes {
		o.mu.Unlock()
		return false
	}
	o.frames = append(o.frames, f)
	o.bytes += len(f.data)
	o.mu.Unlock()
	o.signal()
	return true
}

// finish sets how the socket ends. Only the first call counts; it says true.
func (o *outbox) finish(e ending) bool {
	o.mu.Lock()
	first := o.end == nil
	if first {
		o.end = &e
		if e.drop {
			o.frames, o.bytes = nil, 0
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
	o.frames, o.bytes = spare[:0], 0
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
