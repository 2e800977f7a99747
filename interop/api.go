package interop

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/dspeak/sfu/internal/ident"
)

// APIConfig is what an API needs.
type APIConfig struct {
	// BaseURL is the main server's address without "/dspeak".
	BaseURL string
	// Timeout bounds one call; default 5 s.
	Timeout time.Duration
	Log     *slog.Logger
}

// API calls the main server over HTTP. Any goroutine may use it.
type API struct{}

// NewAPI checks the address: a bad one is an errs.ErrInvalid.
func NewAPI(cfg APIConfig) (*API, error) { return &API{}, nil }

// Validate asks whether the credential may open the channel. It returns the
// user id of the answer, or the credential when the answer names none.
// A *RefusedError is a clear no; an errs.ErrUnavailable means no usable answer.
func (a *API) Validate(ctx context.Context, credential string, channelID ident.ChannelID) (ident.UserID, error) {
	return "", nil
}

// ICEServers reads the ICE servers of the app's users: a non-empty JSON array of RTCIceServer, or nil when there are none.
func (a *API) ICEServers(ctx context.Context) (json.RawMessage, error) { return nil, nil }

// PollICEServers reads the ICE servers now and every interval, and hands each
// answer to update, nil for none. After a failure the last answer stays. It
// returns when ctx ends.
func (a *API) PollICEServers(ctx context.Context, interval time.Duration, update func(json.RawMessage)) {
}

// CloseIdle closes kept connections.
func (a *API) CloseIdle() {}
