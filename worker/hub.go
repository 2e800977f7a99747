package worker

import (
	"fmt"
	"sync"

	"github.com/dspeak/sfu/internal/errs"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/worker/rtc"
)

const (
	maxWatchers  = 16
	watcherQueue = 8192
)

// hub passes the loop's events on to every watcher, in order. One goroutine runs
// it; the other methods may be called from any goroutine.
type hub struct {
	mu       sync.Mutex
	watchers map[*watcher]struct{} // guarded by mu; nil once closed
}

// watcher is one reader of events. The hub closes the channel, after it set ended.
type watcher struct {
	events chan *workerv1.WatchEventsResponse
	ended  error
}

func newHub() *hub { return &hub{watchers: map[*watcher]struct{}{}} }

// run passes events on until the source is closed, then ends all watchers.
func (h *hub) run(source <-chan rtc.Event) {
	for e := range source {
		h.publish(fromEvent(e))
	}
	h.endAll(fmt.Errorf("worker stops: %w", errs.ErrUnavailable))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watchers = nil
}

// endAll ends the watchers of this moment, after what they have not read yet.
func (h *hub) endAll(cause error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		h.endLocked(w, cause)
	}
}

func (h *hub) publish(e *workerv1.WatchEventsResponse) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		select {
		case w.events <- e:
		default:
			h.endLocked(w, fmt.Errorf("event watcher too slow: %w", errs.ErrExhausted))
		}
	}
}

func (h *hub) endLocked(w *watcher, cause error) {
	w.ended = cause
	close(w.events)
	delete(h.watchers, w)
}

func (h *hub) watch() (*watcher, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers == nil {
		return nil, fmt.Errorf("watch events: worker stops: %w", errs.ErrUnavailable)
	}
	if len(h.watchers) >= maxWatchers {
		return nil, fmt.Errorf("watch events: %d watchers: %w", maxWatchers, errs.ErrExhausted)
	}
	w := &watcher{events: make(chan *workerv1.WatchEventsResponse, watcherQueue)}
	h.watchers[w] = struct{}{}
	return w, nil
}

func (h *hub) leave(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers, w)
}
