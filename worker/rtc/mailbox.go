package rtc

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/dspeak/sfu/internal/errs"
)

// mailboxSize bounds the calls that wait for the loop. A caller beyond it waits
// for room, as long as its context lives.
const mailboxSize = 1024

// Progress of a call: whoever moves it away from callWaiting owns its outcome.
const (
	callWaiting int32 = iota
	callRunning
	callGivenUp
)

// call is one closure on its way to the loop.
type call struct {
	fn    func()
	state atomic.Int32
	done  chan struct{} // closed by the loop after fn ran
}

// mailbox carries closures from any goroutine to the loop, in order.
type mailbox struct {
	calls chan *call
	posts chan func()
	dead  chan struct{} // closed when the loop takes nothing any more

	// mu is held for reading around each wake, so that close can wait for them:
	// the poller behind wake is gone soon after.
	mu   sync.RWMutex
	wake func() // interrupts the loop's wait; any goroutine
}

func newMailbox(wake func()) *mailbox {
	return &mailbox{
		calls: make(chan *call, mailboxSize),
		posts: make(chan func(), mailboxSize),
		wake:  wake,
		dead:  make(chan struct{}),
	}
}

// do runs fn on the loop and returns when it ran. When ctx ends before the loop
// reached the call, fn never runs. Errors: the context's, or ErrClosed.
func (m *mailbox) do(ctx context.Context, fn func()) error {
	c := &call{fn: fn, done: make(chan struct{})}
	select {
	case m.calls <- c:
	case <-ctx.Done():
		return fmt.Errorf("media loop call: %w", ctx.Err())
	case <-m.dead:
		return fmt.Errorf("media loop: %w", errs.ErrClosed)
	}
	m.nudge()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		if c.state.CompareAndSwap(callWaiting, callGivenUp) {
			return fmt.Errorf("media loop call: %w", ctx.Err())
		}
	case <-m.dead:
		if c.state.CompareAndSwap(callWaiting, callGivenUp) {
			return fmt.Errorf("media loop: %w", errs.ErrClosed)
		}
	}
	<-c.done // it runs at this moment, and the loop never blocks
	return nil
}

// post runs fn on the loop some time later, unless the loop ends first. It waits
// for room.
func (m *mailbox) post(fn func()) {
	select {
	case m.posts <- fn:
		m.nudge()
	case <-m.dead:
	}
}

// offer is post without waiting: without room, fn never runs.
func (m *mailbox) offer(fn func()) {
	select {
	case m.posts <- fn:
		m.nudge()
	default:
	}
}

// run executes at most limit waiting entries of each kind, on the loop.
// It reports whether more may be waiting.
func (m *mailbox) run(limit int) bool {
	more := false
	for i := 0; ; i++ {
		if i == limit {
			more = true
			break
		}
		select {
		case fn := <-m.posts:
			fn()
			continue
		default:
		}
		break
	}
	for range limit {
		select {
		case c := <-m.calls:
			c.run()
			continue
		default:
		}
		return more
	}
	return true
}

func (c *call) run() {
	if c.state.CompareAndSwap(callWaiting, callRunning) {
		c.fn()
		close(c.done)
	}
}

// nudge interrupts the loop's wait, if the loop is still there.
func (m *mailbox) nudge() {
	m.mu.RLock()
	defer m.mu.RUnlock()
	select {
	case <-m.dead:
	default:
		m.wake()
	}
}

// close refuses all further entries. Calls that wait get ErrClosed. After it
// returned, nobody wakes the loop.
func (m *mailbox) close() {
	close(m.dead)
	m.mu.Lock()
	defer m.mu.Unlock()
}
