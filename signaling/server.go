package signaling

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/signaling/wire"
)

// Config is what a Server needs. Zero limits and durations mean the defaults.
type Config struct {
	Backend Backend
	// Validator is nil when every socket is accepted with its credential as user id.
	Validator Validator
	Log       *slog.Logger
	Limits    Limits

	// Origins are the allowed values of the Origin header ("https://example.org"); "*" allows all.
	Origins []string
	// AnyOrigin allows every origin: for development.
	AnyOrigin bool
	// TrustedProxies are the peers whose X-Forwarded-* and X-Real-IP headers count.
	TrustedProxies []netip.Prefix
}

// Limits bounds what clients may use. A zero field takes the default.
type Limits struct {
	// MessageBytes bounds one frame; default 64 KiB.
	MessageBytes int64
	// Rate is how many messages a second a socket may send in the long run, Burst how
	// many at once; defaults 200 and 4000. A message counts once more for each 16 KiB.
	Rate  float64
	Burst int
	// PendingRequests and PendingBytes bound what waits for the Backend; defaults 4000 and 8 MiB.
	PendingRequests int
	PendingBytes    int
	// SendQueue and SendQueueBytes bound what waits for the client; defaults 4096 messages and 16 MiB.
	SendQueue      int
	SendQueueBytes int
	// WriteTimeout bounds the writing of one message; default 10 s.
	WriteTimeout time.Duration
	// HeartbeatInterval is the time between the server's pings; default 15 s.
	HeartbeatInterval time.Duration
	// HeartbeatTimeout is how long a client may be silent; default 60 s.
	HeartbeatTimeout time.Duration
	// ValidationTimeout bounds the Validator; default 5 s.
	ValidationTimeout time.Duration
	// CloseTimeout is how long a closing socket waits for the client's close frame; default 1 s.
	CloseTimeout time.Duration
	// Connections and ConnectionsPerAddress cap the open sockets; defaults 16384 and
	// 1024. An IPv6 client counts with its /64.
	Connections           int
	ConnectionsPerAddress int
}

// Server accepts signaling sockets: the http.Handler of /socket.
type Server struct{}

// NewServer returns a Server that accepts at once.
func NewServer(cfg Config) *Server { return &Server{} }

// ServeHTTP upgrades one request and returns when its socket has ended.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {}

// Len is the number of open sockets. Any goroutine may call it.
func (s *Server) Len() int { return 0 }

// Close refuses new sockets with HTTP 503, closes every socket with the code and
// reason after its queue is flushed, and waits until all have ended or ctx has.
func (s *Server) Close(ctx context.Context, code int, reason string) error { return nil }

// Session is one socket. All methods may be called from any goroutine.
type Session struct{}

// ID names the session; it is made by the server.
func (s *Session) ID() string { return "" }

// UserID is the validated user.
func (s *Session) UserID() ident.UserID { return "" }

// ChannelID is the channel of the socket.
func (s *Session) ChannelID() ident.ChannelID { return "" }

// Family is the IP version of the client.
func (s *Session) Family() Family { return FamilyAny }

// LogUser is the user id for logs: a digest when it is the credential.
func (s *Session) LogUser() string { return "" }

// Log is the logger of the session, with session, channel and user set.
func (s *Session) Log() *slog.Logger { return nil }

// Send queues a message. It never blocks; a full queue closes the socket.
func (s *Session) Send(m wire.Message) {}

// SendEncoded queues an encoded message, shared between sockets.
func (s *Session) SendEncoded(e *wire.Encoded) {}

// Close sends what is queued, then closes the socket.
func (s *Session) Close(code int, reason string) {}
