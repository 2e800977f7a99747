package signaling

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/lapse"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/signaling/wire"
)

// Session is one socket. Its exported methods may be called from any goroutine,
// from Backend.Join on.
type Session struct {
	// Set before the goroutines start.
	id         string
	channelID  ident.ChannelID
	family     Family
	credential string
	refusal    *wire.Error // the socket never joins
	server     *Server
	limits     Limits
	conn       *websocket.Conn // reads
	raw        net.Conn        // beneath conn: what the writer writes to, and closes
	intake     *intake         // beneath conn: what the reader reads from
	deflater   *deflater       // nil: the client takes no compressed messages
	in         *inbox
	out        *outbox
	cancel     context.CancelFunc // ends the runner's context
	base       *slog.Logger       // without the user

	// Set by the runner before Join.
	userID ident.UserID
	log    *slog.Logger

	// joined lets the reader answer pings itself.
	joined atomic.Bool

	// silence ends the socket of a client that says nothing for the heartbeat's timeout. A
	// deadline of the connection would count the time in which this process was frozen, when
	// no client could be heard.
	silence *lapse.Timer

	deadline  sync.Mutex // orders the changes of the read deadline; a leaf but for out's
	closeSent bool       // guarded by deadline

	// Owned by the writer.
	wrote   time.Time // when it last wrote
	writeBy time.Time // the write deadline that is set

	// Owned by the reader.
	limiter   *rate.Limiter
	malformed int // bad messages so far
}

// ID names the session; it is made by the server.
func (s *Session) ID() string { return s.id }

// UserID is the validated user.
func (s *Session) UserID() ident.UserID { return s.userID }

// AskedAs is the user id with which Backend.Admit was asked before the upgrade: the
// credential, which must never reach a log.
func (s *Session) AskedAs() ident.UserID { return ident.UserID(s.credential) }

// ChannelID is the channel of the socket.
func (s *Session) ChannelID() ident.ChannelID { return s.channelID }

// Family is the IP version of the client.
func (s *Session) Family() Family { return s.family }

// Log is the logger of the session, with session, channel and user set.
func (s *Session) Log() *slog.Logger { return s.log }

// LogUser is the user id for logs: a digest when it is the credential, which
// must never reach a log.
func (s *Session) LogUser() string {
	if string(s.userID) != s.credential {
		return string(s.userID)
	}
	sum := sha256.Sum256([]byte(s.credential))
	return "sha256:" + hex.EncodeToString(sum[:6])
}

// Send queues a message. It never blocks and may be called while holding a
// lock. When the queue is full the socket is closed with wire.ReasonQueueFull;
// after Close a message is dropped.
func (s *Session) Send(m wire.Message) {
	e, err := wire.Encode(m)
	if err != nil {
		s.base.Error("message not sent", obs.Err(err))
		return
	}
	s.SendEncoded(e)
}

// SendEncoded is Send for a message that goes to many sockets.
func (s *Session) SendEncoded(e *wire.Encoded) { s.put(frame{text: e}) }

// SendPicture is SendEncoded for a picture. One of the same kind that still waits is
// dropped, and a full queue takes it all the same: a client that reads slowly sees
// fewer pictures, and all that it sees are in order.
func (s *Session) SendPicture(e *wire.Encoded) {
	s.put(frame{text: e, replaceable: true, patient: true})
}

// SendToCrowd is SendEncoded for a message of which there may be many. The first goes
// at once, and those that follow within collectFor go together: a write costs more
// than the message.
func (s *Session) SendToCrowd(e *wire.Encoded) { s.put(frame{text: e, patient: true}) }

func (s *Session) put(f frame) {
	if !s.out.put(f) {
		s.finish(wire.CloseCause{Cause: wire.CauseSlow, Code: wire.ClosePolicy, Reason: wire.ReasonQueueFull}, true)
	}
}

// Close sends what is queued, bounded by the write timeout, then closes the
// socket with the code and the reason, of which 123 bytes are sent. It does not
// wait: the Backend's Leave follows. Only the first Close counts.
func (s *Session) Close(code int, reason string) {
	s.finish(wire.CloseCause{Cause: wire.CauseServer, Code: code, Reason: reason}, false)
}

// maxReasonBytes is what fits into a close frame (RFC 6455, section 5.5).
const maxReasonBytes = 123

// finish begins the end. It never blocks.
func (s *Session) finish(cause wire.CloseCause, drop bool) {
	cause.Reason = wire.Cut(cause.Reason, maxReasonBytes)
	patience := s.limits.WriteTimeout
	if drop {
		patience = s.limits.CloseTimeout
	}
	by := time.Now().Add(patience)
	if !s.out.finish(ending{cause, by, drop}) {
		return
	}
	s.cancel()
	if drop { // also the write that may be stuck now
		_ = s.raw.SetWriteDeadline(by)
	}
	s.deadline.Lock()
	defer s.deadline.Unlock()
	if !s.closeSent {
		_ = s.raw.SetReadDeadline(by.Add(s.limits.CloseTimeout))
	}
}

// alive notes a sign of life.
func (s *Session) alive() { s.silence.Restart() }

// silent closes the socket of a client that gave no sign of life.
func (s *Session) silent() {
	s.finish(wire.CloseCause{Cause: wire.CauseHeartbeat, Code: wire.ClosePolicy, Reason: wire.ReasonHeartbeat}, true)
}

// awaitClose gives the client a moment for its close frame.
func (s *Session) awaitClose() {
	s.deadline.Lock()
	defer s.deadline.Unlock()
	s.closeSent = true
	_ = s.raw.SetReadDeadline(time.Now().Add(s.limits.CloseTimeout))
}

// run serves the socket until it has ended. ctx is the one that s.cancel ends.
func (s *Session) run(ctx context.Context) {
	defer s.cancel()
	s.silence = lapse.AfterFunc(s.limits.HeartbeatTimeout, s.silent)
	defer s.silence.Stop()
	var parts sync.WaitGroup
	parts.Go(func() { s.guard(s.write) })
	parts.Go(func() { s.guard(func() { s.serve(ctx) }) })
	s.guard(s.read)
	// Only now the connection may go: the reader has taken the client's close
	// frame, or the time for it is over.
	s.finish(wire.CloseCause{Cause: wire.CauseLost, Code: wire.CloseAbnormal}, true)
	parts.Wait()
	_ = s.raw.Close()
}

// guard closes the socket when f panics: a fault in one session ends no other.
func (s *Session) guard(f func()) {
	defer func() {
		if p := recover(); p != nil {
			s.base.Error("session panicked", "panic", p, "stack", string(debug.Stack()))
			s.finish(wire.CloseCause{Cause: wire.CauseFault, Code: wire.CloseInternalError, Reason: wire.ReasonFault}, true)
		}
	}()
	f()
}
