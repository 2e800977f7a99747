package wire

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/dspeak/sfu/internal/errs"
)

// Limits of what a client reads in an error.
const (
	maxTypeBytes    = 64
	maxDetailsBytes = 512
)

// Error is a fault that the client is told. A handler returns it, wrapped or
// not; it wraps a sentinel of package errs where one fits.
type Error struct {
	// Text is the client-visible sentence, one of the protocol's.
	Text string
	// Details says more, empty for nothing; cut to a bounded length.
	Details string
	// Status is an HTTP status, 0 for none.
	Status int

	cause error
}

// Error is the text for the log.
func (e *Error) Error() string {
	if e.Details == "" {
		return e.Text
	}
	return e.Text + ": " + e.Details
}

// Unwrap returns what the error wraps.
func (e *Error) Unwrap() error { return e.cause }

func newError(cause error, text string) *Error { return &Error{Text: text, cause: cause} }

func withDetails(err error, text string) *Error {
	e := &Error{Text: text, cause: err}
	if err != nil {
		e.Details = Cut(err.Error(), maxDetailsBytes)
	}
	return e
}

// Faults of the message itself.

// ErrMalformed is the answer to a frame that is not JSON.
func ErrMalformed() *Error { return newError(errs.ErrInvalid, "Malformed JSON in message") }

// ErrMissingType is the answer to JSON that is no object or has no type.
func ErrMissingType() *Error {
	return newError(errs.ErrInvalid, "Invalid message format: missing type")
}

// ErrUnknownType is the answer to a type that no client should send; the type is cut to 64 bytes.
func ErrUnknownType(typ string) *Error {
	return newError(errs.ErrInvalid, "Unknown message type: "+Cut(typ, maxTypeBytes))
}

// Faults of names.

// ErrTransportNotFound is the answer to an unknown transport, or to none at all.
func ErrTransportNotFound() *Error { return newError(errs.ErrNotFound, "Transport not found") }

// ErrProducerNotFound is the answer to a producer that is not this user's.
func ErrProducerNotFound() *Error { return newError(errs.ErrNotFound, "Producer not found") }

// ErrConsumerNotFound is the answer to a consumer that is not this user's.
func ErrConsumerNotFound() *Error { return newError(errs.ErrNotFound, "Consumer not found") }

// Faults of a consume request.

// ErrConsumeProducerID is the answer to a producerId that is no string.
func ErrConsumeProducerID() *Error {
	return newError(errs.ErrInvalid, "Missing or invalid producerId in consume request")
}

// ErrConsumeNotFound is the answer to a producer that does not exist in the channel.
func ErrConsumeNotFound() *Error {
	return newError(errs.ErrNotFound, "Cannot consume this producer: producer not found")
}

// ErrConsumeNoCapabilities is the answer to a client that never sent capabilities.
func ErrConsumeNoCapabilities() *Error {
	return newError(errs.ErrInvalid, "Cannot consume: missing RTP capabilities. Please send your RTP capabilities first.")
}

// ErrConsumeMismatch is the answer to capabilities that do not match the producer.
func ErrConsumeMismatch() *Error {
	return newError(errs.ErrUnsupported, "Cannot consume this producer: codec/parameter mismatch")
}

// ErrNoProducer is the answer to a consume without producerId when there is nobody to hear.
func ErrNoProducer() *Error { return newError(errs.ErrNotFound, "No producer available") }

// ErrAlreadyConsuming is the answer to a repeated consume on one transport.
func ErrAlreadyConsuming() *Error { return newError(errs.ErrExists, "Already consuming this producer") }

// ErrConsumeFailed is the answer to a consume that fails for another reason; the reason goes into the details.
func ErrConsumeFailed(reason error) *Error { return withDetails(reason, "Failed to consume media") }

// Faults of the other requests.

// ErrProduceFailed is the answer to a refused produce; the reason goes into the details.
func ErrProduceFailed(reason error) *Error { return withDetails(reason, "Failed to produce media") }

// ErrConnectFailed is the answer to a refused connect-transport; the reason goes into the details.
func ErrConnectFailed(reason error) *Error {
	return withDetails(reason, "Failed to connect transport")
}

// ErrCreateTransportFailed is the answer to a create-transport that fails for another reason than a missing worker.
func ErrCreateTransportFailed(reason error) *Error {
	return withDetails(reason, "Failed to create transport")
}

// ErrMissingCapabilities is the answer to a client-rtp-capabilities without any.
func ErrMissingCapabilities() *Error {
	return newError(errs.ErrInvalid, "Missing RTP capabilities in message")
}

// ErrInvalidCapabilities is the answer to capabilities of the wrong form.
func ErrInvalidCapabilities() *Error {
	return newError(errs.ErrInvalid, "Invalid RTP capabilities format")
}

// ErrRouterNotReady is the answer when no worker can take the channel.
func ErrRouterNotReady() *Error { return newError(errs.ErrUnavailable, "Router not ready") }

// ErrLimit is the answer when the user has reached the bound of the named objects ("transports", "consumers").
func ErrLimit(objects string) *Error { return newError(errs.ErrExhausted, "Too many "+objects) }

// Refusals before a socket has joined.

// ErrMissingQuery is the refusal of a socket without auth or channelId.
func ErrMissingQuery() *Error {
	return newError(errs.ErrInvalid, "Missing auth or channelId in query params")
}

// ErrInvalidQuery is the refusal of an auth or a channelId that is too long or no text.
func ErrInvalidQuery() *Error {
	return newError(errs.ErrInvalid, "Invalid auth or channelId in query params")
}

// ErrValidationFailed is the refusal by the main server, with its status.
func ErrValidationFailed(status int) *Error {
	e := newError(errs.ErrDenied, "Channel validation failed")
	e.Status = status
	return e
}

// ErrNotMedia is the refusal of a channel that carries no voice.
func ErrNotMedia() *Error { return newError(errs.ErrDenied, "Channel is not a media channel") }

// ErrBackendValidation is the refusal while the main server gives no usable answer.
func ErrBackendValidation() *Error { return newError(errs.ErrUnavailable, "Backend validation error") }

// ErrNotAdmitted is the refusal of a user who may not open the channel now.
func ErrNotAdmitted() *Error {
	e := newError(errs.ErrDenied, "You were removed from this channel. Please try again later.")
	e.Status = 403
	return e
}

// ErrorFor turns any error into the message that the client is told. An Error
// keeps its text; a sentinel alone gives a general sentence; everything else is
// one fixed internal-error text, so that no detail leaks. known is false in
// that last case: the caller logs it.
func ErrorFor(err error, requestID json.RawMessage) (m ErrorMessage, known bool) {
	var e *Error
	switch {
	case errors.As(err, &e):
	case errors.Is(err, errs.ErrUnavailable):
		e = ErrRouterNotReady()
	case errors.Is(err, errs.ErrExhausted):
		e = newError(err, "Limit reached")
	case errors.Is(err, errs.ErrClosed):
		e = newError(err, "Session is closing")
	default:
		return ErrorMessage{Text: "Internal server error", RequestID: requestID}, false
	}
	return ErrorMessage{Text: e.Text, Details: e.Details, Status: e.Status, RequestID: requestID}, true
}

// fault is a reason with a sentinel, for the details of an answer.
func fault(text string) error { return fmt.Errorf("%s: %w", text, errs.ErrInvalid) }
