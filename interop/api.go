package interop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/obs"
)

// Bounds of the main server's answers.
const (
	maxAnswerBytes     = 1 << 20
	maxICEServersBytes = 64 << 10
	maxICEServers      = 64
	maxRedirects       = 3
)

const (
	defaultTimeout     = 5 * time.Second
	defaultConnections = 256
)

// APIConfig is what an API needs.
type APIConfig struct {
	// BaseURL is the main server's address without "/dspeak".
	BaseURL string
	// Timeout bounds one call; default 5 s.
	Timeout time.Duration
	// Connections bounds those open at once; default 256.
	Connections int
	Log         *slog.Logger
}

// API calls the main server over HTTP. Any goroutine may use it.
type API struct {
	base    *url.URL
	timeout time.Duration
	client  *http.Client
	log     *slog.Logger
}

// NewAPI checks the address: a bad one is an errs.ErrInvalid.
func NewAPI(cfg APIConfig) (*API, error) {
	base, err := url.Parse(cfg.BaseURL)
	if err != nil || base.Hostname() == "" || !slices.Contains([]string{"http", "https"}, base.Scheme) || base.User != nil {
		return nil, fmt.Errorf("main server: want a URL like https://host: %w", errs.ErrInvalid)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Connections <= 0 {
		cfg.Connections = defaultConnections
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 32,
		MaxConnsPerHost:     cfg.Connections,
		IdleConnTimeout:     30 * time.Second,
		TLSHandshakeTimeout: cfg.Timeout,
	}
	return &API{base: base, timeout: cfg.Timeout, log: cfg.Log, client: &http.Client{
		Transport: transport, CheckRedirect: stayHere,
	}}, nil
}

// stayHere follows a redirect on the same server only: a credential goes nowhere else.
func stayHere(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	if len(via) > maxRedirects || req.URL.Scheme != first.Scheme || req.URL.Host != first.Host {
		return http.ErrUseLastResponse
	}
	return nil
}

// CloseIdle closes kept connections.
func (a *API) CloseIdle() { a.client.CloseIdleConnections() }

// RefusedError is a clear no of the main server.
type RefusedError struct {
	// Status is its HTTP status, or 0 when the channel carries no media.
	Status int
}

// Error is the text for the log.
func (e *RefusedError) Error() string {
	if e.Status == 0 {
		return "the channel is no media channel"
	}
	return fmt.Sprintf("the main server answered with status %d", e.Status)
}

// Unwrap makes it an errs.ErrDenied.
func (e *RefusedError) Unwrap() error { return errs.ErrDenied }

// RefusalStatus is Status.
func (e *RefusedError) RefusalStatus() int { return e.Status }

// Validate asks whether the credential may open the channel. It returns the
// user id of the answer, or the credential when the answer names none.
// A *RefusedError is a clear no; an errs.ErrUnavailable means no usable answer.
// No error holds the credential.
func (a *API) Validate(ctx context.Context, credential string, channelID ident.ChannelID) (ident.UserID, error) {
	u := a.base.JoinPath("dspeak", "channel", "details")
	u.RawQuery = url.Values{"id": {string(channelID)}}.Encode()
	status, body, err := a.get(ctx, u, http.Header{"Authorization": {credential}}, maxAnswerBytes)
	if err != nil {
		return "", fmt.Errorf("validate socket: %w", err)
	}
	if status < 200 || status > 299 {
		return "", fmt.Errorf("validate socket: %w", &RefusedError{Status: status})
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		if !json.Valid(body) {
			return "", fmt.Errorf("validate socket: the answer is no JSON: %w", errs.ErrUnavailable)
		}
		fields = nil // JSON, but it names no media channel
	}
	if string(fields["isMedia"]) != "true" {
		return "", fmt.Errorf("validate socket: %w", &RefusedError{})
	}
	return userOf(fields["userId"], credential), nil
}

// userOf is the answer's user id, a string or a number, else the credential.
func userOf(raw json.RawMessage, credential string) ident.UserID {
	var name string
	if json.Unmarshal(raw, &name) == nil && name != "" {
		return ident.UserID(name)
	}
	var number json.Number
	if json.Unmarshal(raw, &number) == nil && number != "" {
		return ident.UserID(number)
	}
	return ident.UserID(credential)
}

// get reads one answer. Its errors wrap errs.ErrUnavailable and hold no header.
func (a *API) get(ctx context.Context, u *url.URL, header http.Header, limit int64) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", err, errs.ErrUnavailable)
	}
	req.Header = header
	req.Header.Set("Accept", "application/json")
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", reason(err), errs.ErrUnavailable)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return 0, nil, fmt.Errorf("read the answer: %w: %w", err, errs.ErrUnavailable)
	}
	if int64(len(body)) > limit {
		return 0, nil, fmt.Errorf("the answer exceeds %d bytes: %w", limit, errs.ErrUnavailable)
	}
	return resp.StatusCode, body, nil
}

// reason takes the URL off an error of the HTTP client: after a redirect it may hold anything.
func reason(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// ICEServers reads the ICE servers of the app's users: a non-empty JSON array of
// RTCIceServer, or nil when there are none. Errors wrap errs.ErrUnavailable.
func (a *API) ICEServers(ctx context.Context) (json.RawMessage, error) {
	status, body, err := a.get(ctx, a.base.JoinPath("dspeak", "config"), http.Header{}, maxICEServersBytes)
	if err != nil {
		return nil, fmt.Errorf("read ICE servers: %w", err)
	}
	if status < 200 || status > 299 {
		return nil, fmt.Errorf("read ICE servers: status %d: %w", status, errs.ErrUnavailable)
	}
	servers, err := iceServers(body)
	if err != nil {
		return nil, fmt.Errorf("read ICE servers: %w", err)
	}
	return servers, nil
}

// iceServers checks that a browser would take the list: one bad entry there
// makes the whole call fail.
func iceServers(body []byte) (json.RawMessage, error) {
	var list []struct {
		URLs any `json:"urls"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("no array of RTCIceServer: %w", errs.ErrUnavailable)
	}
	if len(list) > maxICEServers {
		return nil, fmt.Errorf("%d entries, more than %d: %w", len(list), maxICEServers, errs.ErrUnavailable)
	}
	for i, server := range list {
		if !urls(server.URLs) {
			return nil, fmt.Errorf("entry %d has no urls: %w", i, errs.ErrUnavailable)
		}
	}
	if len(list) == 0 {
		return nil, nil
	}
	return json.RawMessage(strings.TrimSpace(string(body))), nil
}

// urls says whether v is one ICE URL or a list of them.
func urls(v any) bool {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	return len(list) > 0 && !slices.ContainsFunc(list, func(item any) bool {
		s, _ := item.(string)
		scheme, rest, _ := strings.Cut(s, ":")
		return rest == "" || !slices.Contains([]string{"stun", "stuns", "turn", "turns"}, strings.ToLower(scheme))
	})
}

// PollICEServers reads the ICE servers now and every interval, and hands each
// answer to update, nil for none. After a failure the last answer stays. It
// returns when ctx ends.
func (a *API) PollICEServers(ctx context.Context, interval time.Duration, update func(json.RawMessage)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for failed := false; ; {
		servers, err := a.ICEServers(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			update(servers)
		case !failed:
			a.log.Warn("no ICE servers from the main server", obs.Err(err))
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
