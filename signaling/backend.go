package signaling

import (
	"context"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/signaling/wire"
)

// Backend is what a Server needs from the rest of the process. Every method may
// be called from many goroutines at once, for different sockets.
type Backend interface {
	// Admit says whether the user may open the channel now. It is asked before the
	// upgrade with the credential as user id, and again after validation with the
	// real one. An error that wraps errs.ErrUnavailable or errs.ErrExhausted is
	// HTTP 503, any other HTTP 403, with the error's text as the body.
	Admit(userID ident.UserID, channelID ident.ChannelID) error
	// Join is called once for a validated socket, before any Handle. It sends the
	// first events through s. An error refuses the socket: the client is told as
	// by Handle, then the socket is closed, and Leave is not called.
	Join(ctx context.Context, s *Session) error
	// Handle runs one request: never Ping or Pong, and one at a time for a socket,
	// in the order of arrival. It answers through s; an error becomes the error
	// message of wire.ErrorFor. ctx ends with the socket.
	Handle(ctx context.Context, s *Session, req wire.Request) error
	// Leave is called exactly once for each socket whose Join returned nil or
	// panicked, after its last Handle returned, when the socket is gone.
	Leave(s *Session, cause wire.CloseCause)
}

// Validator asks the main server about a new socket.
type Validator interface {
	// Validate returns the user id for the credential in the channel. It must obey
	// ctx. An error that implements Refusal says no; any other means that there was
	// no usable answer. No error text may hold the credential.
	Validate(ctx context.Context, credential string, channelID ident.ChannelID) (ident.UserID, error)
}

// Refusal is implemented by errors of a Validator that mean a clear no.
type Refusal interface {
	error
	// RefusalStatus is the main server's HTTP status when that was the answer, or 0
	// when the channel carries no media.
	RefusalStatus() int
}

// Family is the IP version over which a client reached the socket.
type Family int

// The families.
const (
	// FamilyAny: unknown.
	FamilyAny Family = 0
	// FamilyIPv4 is IPv4, also when mapped into IPv6.
	FamilyIPv4 Family = 4
	// FamilyIPv6 is IPv6.
	FamilyIPv6 Family = 6
)

// String is the family's name.
func (f Family) String() string {
	switch f {
	case FamilyIPv4:
		return "ipv4"
	case FamilyIPv6:
		return "ipv6"
	case FamilyAny:
	}
	return "any"
}
