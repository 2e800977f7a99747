package signaling

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/internal/origin"
	"github.com/dspeak/sfu/signaling/wire"
)

// Config is what a Server needs.
type Config struct {
	Backend Backend
	// Validator is nil when every socket is accepted with its credential as user id.
	Validator Validator
	Log       *slog.Logger
	Limits    Limits

	// Origins are the pages that may open a socket; the zero List allows all. The
	// credential is in the URL and never in a cookie, so that another site gains
	// nothing by opening a socket.
	Origins origin.List
	// TrustedProxies are the peers whose X-Forwarded-* and X-Real-IP headers count.
	TrustedProxies []netip.Prefix
	// PublicURL is the socket's URL as clients know it, empty to tell it from each request.
	PublicURL string
}

// Server accepts signaling sockets: the http.Handler of /socket. Any goroutine
// may use it.
type Server struct {
	cfg      Config
	limits   Limits
	upgrader websocket.Upgrader
	deflater *deflater
	work     *work
	buffers  sync.Pool // of writers
	trusted  proxies
	turns    *admission

	refusalLog *rate.Limiter // of log lines
	unlogged   atomic.Uint64 // refusals since the last line

	mu        sync.Mutex            // a leaf lock
	sessions  map[*Session]struct{} // guarded by mu
	addresses map[netip.Prefix]int  // open sockets by address; guarded by mu
	reserved  int                   // places taken; guarded by mu
	closing   bool                  // guarded by mu
	empty     chan struct{}         // closed when closing and no place is taken; guarded by mu
}

// NewServer returns a Server that accepts at once.
func NewServer(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg: cfg, limits: cfg.Limits.withDefaults(), trusted: cfg.TrustedProxies,
		sessions: map[*Session]struct{}{}, addresses: map[netip.Prefix]int{}, empty: make(chan struct{}),
	}
	s.turns = newAdmission(s.limits)
	s.refusalLog = rate.NewLimiter(rate.Every(refusalLogEvery), refusalLogBurst)
	s.deflater, s.work, s.buffers.New = newDeflater(), newWork(), newBatch
	s.upgrader = websocket.Upgrader{
		HandshakeTimeout: s.limits.WriteTimeout,
		ReadBufferSize:   bufferBytes, WriteBufferSize: bufferBytes, WriteBufferPool: &sync.Pool{},
		CheckOrigin: func(*http.Request) bool { return true }, // done before, with a log line
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			http.Error(w, reason.Error(), status)
		},
	}
	return s
}

const bufferBytes = 4096

// Len is the number of open sockets.
func (s *Server) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Waiting is the number of clients that wait to be accepted, and how many were
// refused because too many waited.
func (s *Server) Waiting() (waiting int, refused uint64) {
	return int(s.turns.waiting.Load()), s.turns.refused.Load()
}

// Close refuses new sockets with HTTP 503, closes every socket with the code and
// the reason after its queue is flushed, and waits until all have ended. When
// ctx ends before, its error is returned and the rest ends by itself, bounded by
// the write and close timeouts.
func (s *Server) Close(ctx context.Context, code int, reason string) error {
	s.mu.Lock()
	if !s.closing {
		s.closing = true
		close(s.turns.closing)
		s.checkEmpty()
	}
	open := make([]*Session, 0, len(s.sessions))
	for session := range s.sessions {
		open = append(open, session)
	}
	s.mu.Unlock()
	for _, session := range open {
		session.Close(code, reason)
	}
	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close %d signaling sockets: %w", s.Len(), ctx.Err())
	}
}

// checkEmpty is called with mu held.
func (s *Server) checkEmpty() {
	if s.closing && s.reserved == 0 {
		close(s.empty)
	}
}

// ServeHTTP upgrades one request and returns when its socket has ended.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !websocket.IsWebSocketUpgrade(r) {
		s.upgradeRequired(w, r)
		return
	}
	addr, stated := s.trusted.clientAddrs(r)
	if !s.originAllowed(r) {
		s.logOrigin(r, addr)
		http.Error(w, "Origin not allowed", http.StatusForbidden)
		return
	}
	if status := s.reserve(addr); status != 0 {
		if status == http.StatusTooManyRequests {
			s.logAddressLimit(r, addr)
		}
		w.Header().Set("Retry-After", retryAfter)
		http.Error(w, http.StatusText(status), status)
		return
	}
	defer s.release(addr)
	credential, channelID, refusal := query(r)
	if refusal == nil {
		if err := s.cfg.Backend.Admit(ident.UserID(credential), channelID); err != nil {
			http.Error(w, err.Error(), admitStatus(err))
			return
		}
	}
	if err := s.turns.enter(r.Context()); err != nil {
		w.Header().Set("Retry-After", retryAfter)
		http.Error(w, err.Error(), http.StatusServiceUnavailable) // nobody reads it when the client left
		return
	}
	upgrader := s.upgrader
	upgrader.EnableCompression = offersDeflate(r.Header)
	hijacker := &intakeWriter{ResponseWriter: w}
	conn, err := upgrader.Upgrade(hijacker, r, nil)
	if err != nil {
		s.cfg.Log.Debug("upgrade failed", obs.KeyRemote, addr.String(), obs.KeyError, err.Error())
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	session := s.newSession(conn, cancel, familyOf(stated))
	hijacker.conn.readOnly = true
	session.intake, session.raw = hijacker.conn, hijacker.conn.Conn
	if upgrader.EnableCompression {
		session.deflater = s.deflater
	}
	session.credential, session.channelID, session.refusal = credential, channelID, refusal
	session.base = s.cfg.Log.With(obs.KeySession, session.id, obs.KeyChannel, string(channelID))
	session.base.Debug("socket open", obs.KeyRemote, addr.String())
	s.add(session)
	session.run(ctx)
	s.remove(session)
}

// retryAfter is in how many seconds a client that found no place should try again.
const retryAfter = "10"

func (s *Server) newSession(conn *websocket.Conn, cancel context.CancelFunc, family Family) *Session {
	return &Session{
		id: ident.New(), family: family, server: s, limits: s.limits, conn: conn, cancel: cancel,
		in:      newInbox(s.limits.PendingRequests, s.limits.PendingBytes),
		out:     newOutbox(s.limits.SendQueue, s.limits.SendQueueBytes),
		limiter: rate.NewLimiter(rate.Limit(s.limits.Rate), s.limits.Burst),
	}
}

// admitStatus is the HTTP status of a user who may not come now.
func admitStatus(err error) int {
	if errors.Is(err, errs.ErrUnavailable) || errors.Is(err, errs.ErrExhausted) {
		return http.StatusServiceUnavailable
	}
	return http.StatusForbidden
}

// reserve takes a place for a client; the status says why there is none.
func (s *Server) reserve(addr netip.Addr) (status int) {
	key := addressKey(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closing || s.reserved >= s.limits.Connections:
		return http.StatusServiceUnavailable
	case s.addresses[key] >= s.limits.ConnectionsPerAddress:
		return http.StatusTooManyRequests
	}
	s.reserved++
	s.addresses[key]++
	return 0
}

func (s *Server) release(addr netip.Addr) {
	key := addressKey(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved--
	if s.addresses[key]--; s.addresses[key] <= 0 {
		delete(s.addresses, key)
	}
	s.checkEmpty()
}

// add makes a session known; one that comes after Close is closed.
func (s *Server) add(session *Session) {
	s.mu.Lock()
	s.sessions[session] = struct{}{}
	closing := s.closing
	s.mu.Unlock()
	if closing {
		session.Close(wire.CloseGoingAway, wire.ReasonServerStop)
	}
}

func (s *Server) remove(session *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, session)
}
