package wire

// Close codes of RFC 6455, section 7.4.1, and of the IANA registry.
const (
	CloseNormal        = 1000
	CloseGoingAway     = 1001
	CloseProtocol      = 1002
	CloseNoStatus      = 1005
	CloseAbnormal      = 1006
	ClosePolicy        = 1008
	CloseTooBig        = 1009
	CloseInternalError = 1011
	CloseRestart       = 1012
	CloseTryLater      = 1013
)

// Cause says who or what ended a socket.
type Cause int

// The causes.
const (
	// CauseClient: the client sent a close frame.
	CauseClient Cause = iota + 1
	// CauseLost: the connection broke.
	CauseLost
	// CauseHeartbeat: the client was silent for too long.
	CauseHeartbeat
	// CauseFlood: the client sent too much at once.
	CauseFlood
	// CauseOversized: the client sent a frame above the limit.
	CauseOversized
	// CauseSlow: the client read too slowly, so that its send queue filled or a write timed out.
	CauseSlow
	// CauseServer: Session.Close or the server's end.
	CauseServer
	// CauseRefused: the socket was refused before it joined.
	CauseRefused
	// CauseFault: the handler panicked.
	CauseFault
	// CauseProtocol: the client sent what is no WebSocket frame, or cannot be decompressed.
	CauseProtocol
)

// String is the cause in words, for logs.
func (c Cause) String() string {
	switch c {
	case CauseClient:
		return "closed by client"
	case CauseLost:
		return "connection lost"
	case CauseHeartbeat:
		return "heartbeat missed"
	case CauseFlood:
		return "flood"
	case CauseOversized:
		return "oversized frame"
	case CauseSlow:
		return "slow reader"
	case CauseServer:
		return "closed by server"
	case CauseRefused:
		return "refused"
	case CauseFault:
		return "internal fault"
	case CauseProtocol:
		return "bad frame"
	}
	return "unknown"
}

// Reasons in close frames, at most 123 bytes each.
const (
	ReasonHeartbeat    = "heartbeat timeout"
	ReasonRate         = "message rate exceeded"
	ReasonPending      = "too many pending requests"
	ReasonOversized    = "message too big"
	ReasonQueueFull    = "send queue full"
	ReasonWriteTimeout = "write timeout"
	ReasonProtocol     = "bad frame"
	ReasonFault        = "internal error"
	ReasonRefused      = "connection refused"
	ReasonServerStop   = "server is stopping"
	ReasonRestart      = "server restarts"
	ReasonAddresses    = "server has its addresses now"
)

// CloseCause says how a socket ended.
type CloseCause struct {
	Cause Cause
	// Code is the close code sent or received.
	Code int
	// Reason is the text sent or received, cut to 123 bytes.
	Reason string
}
