package interop

import (
	"context"
	"log/slog"
	"time"

	"github.com/dspeak/sfu/internal/ident"
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
	// called on each connect, after the Link began to keep what is sent.
	Snapshot() (wire.SfuStatus, []ChannelUsers)
	// ForceDisconnect removes a user from a channel; the reason may be empty. It is
	// called from the Link's reader and should return soon. An error is told to the
	// main server with its text.
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
	// Queue bounds what waits to be written; default 4096. A full queue gives the connection up: the next one starts with a resync.
	Queue int
}

// Link keeps the WebSocket to the main server up.
type Link struct{}

// NewLink returns a Link that does nothing before Run.
func NewLink(cfg LinkConfig) *Link { return &Link{} }

// Run keeps the link up until ctx ends. What is queued then is still written, bounded in time.
func (l *Link) Run(ctx context.Context) error { return nil }

// Send queues a message. It never blocks and any goroutine may call it, also
// while it holds the lock that Snapshot takes. While the link is down the
// message is dropped: the resync makes up for it.
func (l *Link) Send(m wire.Message) {}

// Connected says whether the link is up.
func (l *Link) Connected() bool { return false }
