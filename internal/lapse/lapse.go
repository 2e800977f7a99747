package lapse

import (
	"context"
	"sync"
	"time"
)

const (
	// slices is how many parts a limit has: a pause costs at most one of them.
	slices = 8
	// maxSlice bounds what a pause costs of a long limit.
	maxSlice = 10 * time.Second
)

// countdown is what is left of a limit. The caller looks at it at least once in a slice.
type countdown struct {
	left, slice time.Duration
	seen        time.Time
}

func newCountdown(limit time.Duration, now time.Time) countdown {
	return countdown{left: limit, slice: max(min(limit/slices, maxSlice), time.Nanosecond), seen: now}
}

// pass counts the time since the last look, a slice at most, and reports whether the limit
// is used up.
func (c *countdown) pass(now time.Time) bool {
	c.left -= min(now.Sub(c.seen), c.slice)
	c.seen = now
	return c.left <= 0
}

// next is when to look again.
func (c *countdown) next() time.Duration { return max(min(c.left, c.slice), 0) }

// Timer calls a function once its limit is used up. Any goroutine may use it.
type Timer struct {
	limit time.Duration
	f     func()

	mu    sync.Mutex
	count countdown   // guarded by mu
	timer *time.Timer // guarded by mu
	over  bool        // guarded by mu: f was called, or never will be
}

// AfterFunc calls f in its own goroutine after this process has run for d.
func AfterFunc(d time.Duration, f func()) *Timer {
	t := &Timer{limit: d, f: f, count: newCountdown(d, time.Now())}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer = time.AfterFunc(t.count.next(), t.fire)
	return t
}

// Restart begins the limit anew, unless the timer has fired or was stopped.
func (t *Timer) Restart() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count = newCountdown(t.limit, time.Now()) // the present slice ends as before
}

// Stop keeps the timer from firing. It reports false when the timer has fired or was
// stopped before.
func (t *Timer) Stop() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return false
	}
	t.over = true
	t.timer.Stop()
	return true
}

// fire ends a slice.
func (t *Timer) fire() {
	if t.ended() {
		t.f()
	}
}

func (t *Timer) ended() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return false
	}
	if t.over = t.count.pass(time.Now()); !t.over {
		t.timer.Reset(t.count.next())
	}
	return t.over
}

// WithTimeout is context.WithTimeout for a limit that runs only while this process runs.
// The context tells no deadline: it is not known when it will be.
func WithTimeout(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	c := &limited{Context: parent, done: make(chan struct{})}
	if err := parent.Err(); err != nil {
		c.end(err) // at once, as callers expect of a context
		return c, func() {}
	}
	limit := AfterFunc(d, func() { c.end(context.DeadlineExceeded) })
	stop := context.AfterFunc(parent, func() { c.end(parent.Err()) })
	return c, func() {
		limit.Stop()
		stop()
		c.end(context.Canceled)
	}
}

// limited is a context of WithTimeout; the embedded one is its parent. Its channel is its
// own, or its children would take its parent's end for its own.
type limited struct {
	context.Context //nolint:containedctx // it is one

	done chan struct{}

	mu  sync.Mutex
	err error // guarded by mu
}

func (c *limited) Done() <-chan struct{} { return c.done }

func (c *limited) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// end is how the context ends; only the first call counts.
func (c *limited) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		close(c.done)
	}
}
