package interop

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/gorilla/websocket"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/interop/wire"
)

// ChannelUsers is one channel with all users in it.
type ChannelUsers struct {
	ChannelID ident.ChannelID
	UserIDs   []ident.UserID
}

// Backend is what a Link needs from the rest of the process.
type Backend interface {
	// Snapshot returns the status to report and every channel that has users. It is
	// called on each connect, from Run's goroutine, after the Link began to keep what
	// is sent: an event that is in the snapshot may follow it once more, but none is
	// missing. The Link itself adds the channels that emptied while it was down.
	Snapshot() (wire.SfuStatus, []ChannelUsers)
	// ForceDisconnect removes a user from a channel; the reason may be empty. It is
	// called from the Link's reader, one at a time, and should return soon. An error
	// is told to the main server with its text.
	ForceDisconnect(ctx context.Context, userID ident.UserID, channelID ident.ChannelID, reason string) error
}

// LinkConfig is what a Link needs. Zero durations and bounds mean the defaults.
type LinkConfig struct {
	// BaseURL is the WebSocket base, "ws://host:port"; "/dspeak/interop" is added.
	BaseURL string
	Backend Backend
	Log     *slog.Logger
	// DialTimeout bounds one attempt; default 10 s.
	DialTimeout time.Duration
	// PingInterval is the time between keepalives; default 15 s. A link that hears nothing for twice that is given up.
	PingInterval time.Duration
	// WriteTimeout bounds the writing of one message; default 10 s.
	WriteTimeout time.Duration
	// RetryMin and RetryMax are the first and the longest pause between attempts,
	// each give or take a half; defaults 1 s and 20 s.
	RetryMin, RetryMax time.Duration
	// Queue bounds the messages that wait to be written; default 16384. A full queue
	// gives the connection up: the next one starts with a resync.
	Queue int
}

// Link keeps the WebSocket to the main server up.
type Link struct {
	cfg LinkConfig
	url string
	// wake has a token when there may be something new for the writer.
	wake chan struct{}

	mu       sync.Mutex     // a leaf lock
	up       bool           // guarded by mu
	overflow bool           // a message did not fit; guarded by mu
	queue    []wire.Message // nil: replaced by a later one; guarded by mu
	// syncs is where the channel's ChannelPresenceSync waits in queue; guarded by mu.
	syncs map[ident.ChannelID]int

	// Owned by Run's goroutine.
	picture picture
}

// NewLink returns a Link that does nothing before Run. A bad address is an errs.ErrInvalid.
func NewLink(cfg LinkConfig) (*Link, error) {
	u, err := url.Parse(cfg.BaseURL)
	if err != nil || u.Hostname() == "" || !slices.Contains([]string{"ws", "wss"}, u.Scheme) || u.User != nil {
		return nil, fmt.Errorf("main server: want a URL like wss://host: %w", errs.ErrInvalid)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	or(&cfg.DialTimeout, 10*time.Second)
	or(&cfg.PingInterval, 15*time.Second)
	or(&cfg.WriteTimeout, 10*time.Second)
	or(&cfg.RetryMin, time.Second)
	or(&cfg.RetryMax, 20*time.Second)
	or(&cfg.Queue, 16384)
	return &Link{
		cfg: cfg, url: strings.TrimRight(cfg.BaseURL, "/") + "/dspeak/interop",
		wake: make(chan struct{}, 1), syncs: map[ident.ChannelID]int{}, picture: picture{channels: map[ident.ChannelID]*channelPicture{}},
	}, nil
}

// or sets a field that is not positive.
func or[T int | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// Send queues a message. It never blocks and any goroutine may call it, also
// while it holds the lock that Snapshot takes. While the link is down the
// message is dropped: the resync makes up for it. A ChannelPresenceSync takes the place
// of one of the same channel that waits, at the end of the queue.
func (l *Link) Send(m wire.Message) {
	l.mu.Lock()
	if !l.up {
		l.mu.Unlock()
		return
	}
	sync, isSync := m.(wire.ChannelPresenceSync)
	if isSync {
		if i, waits := l.syncs[sync.ChannelID]; waits {
			l.queue[i] = nil
		}
	}
	if len(l.queue) >= l.cfg.Queue && !l.overflow { // with an overflow the connection is given up
		l.compact()
	}
	if len(l.queue) >= l.cfg.Queue {
		l.overflow = true
	} else {
		l.queue = append(l.queue, m)
		if isSync {
			l.syncs[sync.ChannelID] = len(l.queue) - 1
		}
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// compact drops the replaced messages from the queue. It is called with mu held.
func (l *Link) compact() {
	clear(l.syncs)
	l.queue = slices.DeleteFunc(l.queue, func(m wire.Message) bool { return m == nil })
	for i, m := range l.queue {
		if m, ok := m.(wire.ChannelPresenceSync); ok {
			l.syncs[m.ChannelID] = i
		}
	}
}

// Connected says whether the link is up. Any goroutine may call it.
func (l *Link) Connected() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up
}

// take returns all that waits; overflow means that something did not fit.
func (l *Link) take() (messages []wire.Message, overflow bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	messages, l.queue = l.queue, nil
	clear(l.syncs)
	return messages, l.overflow
}

// setUp begins or ends the keeping of messages, with an empty queue.
func (l *Link) setUp(up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up, l.overflow, l.queue = up, false, nil
	clear(l.syncs)
}

// settled is how long a connection must have lived for the pauses to start small again.
const settled = time.Second

// Run keeps the link up until ctx ends. What is queued then is still written,
// bounded by two seconds. It is called once; it returns nil.
func (l *Link) Run(ctx context.Context) error {
	pauses := &backoff.ExponentialBackOff{
		InitialInterval: l.cfg.RetryMin, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: l.cfg.RetryMax,
	}
	for ctx.Err() == nil {
		began := time.Now()
		away := l.connect(ctx)
		if time.Since(began) >= settled {
			pauses.Reset()
		}
		l.rest(ctx, pauses.NextBackOff(), away)
	}
	return nil
}

// rest waits before the next attempt.
func (l *Link) rest(ctx context.Context, pause time.Duration, away error) {
	if ctx.Err() != nil {
		return
	}
	l.cfg.Log.Warn("main server away", obs.KeyError, away.Error(), "retry_in", pause.Round(time.Millisecond).String())
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// connect makes one connection and serves it until it is lost.
func (l *Link) connect(ctx context.Context) error {
	dialer := websocket.Dialer{Proxy: http.ProxyFromEnvironment, HandshakeTimeout: l.cfg.DialTimeout}
	conn, resp, err := dialer.DialContext(ctx, l.url, nil)
	if err != nil {
		if resp != nil {
			return fmt.Errorf("dial: status %d: %w", resp.StatusCode, err)
		}
		return fmt.Errorf("dial: %w", err)
	}
	l.cfg.Log.Info("main server connected", obs.KeyRemote, conn.RemoteAddr().String())
	c := &connection{link: l, conn: conn, lost: make(chan struct{})}
	return c.serve(ctx)
}
