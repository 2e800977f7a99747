// Package status converts between the sentinels of package errs and gRPC status
// codes, in both directions, by one table. The interceptors apply it once per
// side, so that no handler converts by hand.
//
// It starts no goroutine; everything in it may be called from any goroutine.
package status

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dspeak/sfu/internal/errs"
)

// pairs is the one table between sentinels and codes.
func pairs() []struct {
	err  error
	code codes.Code
} {
	return []struct {
		err  error
		code codes.Code
	}{
		{errs.ErrNotFound, codes.NotFound},
		{errs.ErrExists, codes.AlreadyExists},
		{errs.ErrInvalid, codes.InvalidArgument},
		{errs.ErrUnsupported, codes.FailedPrecondition},
		{errs.ErrDenied, codes.PermissionDenied},
		{errs.ErrExhausted, codes.ResourceExhausted},
		{errs.ErrUnavailable, codes.Unavailable},
		{errs.ErrClosed, codes.Aborted},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{context.Canceled, codes.Canceled},
	}
}

// FromError turns an error of a handler into a gRPC status error. An error that
// wraps no sentinel becomes Internal. A nil error and a status error stay as they are.
func FromError(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	for _, p := range pairs() {
		if errors.Is(err, p.err) {
			return status.Error(p.code, err.Error())
		}
	}
	return status.Error(codes.Internal, err.Error())
}

// ToError turns the error of a call into one that wraps the sentinel of its
// code. A code without a sentinel leaves the error as it is.
func ToError(err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	for _, p := range pairs() {
		if st.Code() == p.code {
			return &remoteError{sentinel: p.err, text: st.Message()}
		}
	}
	return err
}

// remoteError keeps the server's text without repeating the sentinel's.
type remoteError struct {
	sentinel error
	text     string
}

func (e *remoteError) Error() string {
	if e.text == "" {
		return e.sentinel.Error()
	}
	return e.text
}

func (e *remoteError) Unwrap() error { return e.sentinel }

// Remote returns the server's own error inside the error of a call: its words
// without the method's name. Any other error is returned as it is.
func Remote(err error) error {
	if remote, ok := errors.AsType[*remoteError](err); ok {
		return remote
	}
	return err
}

// UnaryServer converts what handlers return.
func UnaryServer(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	resp, err := handler(ctx, req)
	return resp, FromError(err)
}

// StreamServer converts what stream handlers return.
func StreamServer(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return FromError(handler(srv, ss))
}

// UnaryClient converts what calls return, and names the method.
func UnaryClient(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if err := ToError(invoke(ctx, method, req, reply, cc, opts...)); err != nil {
		return fmt.Errorf("call %s: %w", method, err)
	}
	return nil
}
