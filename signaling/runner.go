package signaling

import (
	"context"
	"errors"
	"fmt"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/signaling/wire"
)

// maxUserIDBytes bounds a user id that the main server names.
const maxUserIDBytes = 4096

// serve validates the socket, joins it and runs its requests.
func (s *Session) serve(ctx context.Context) {
	if fault := s.admit(ctx); fault != nil {
		s.refuse(fault)
		return
	}
	entered := true
	defer func() { // also when the Backend panics
		if entered {
			s.leave()
		}
	}()
	if err := s.join(ctx); err != nil {
		entered = false
		s.refuse(s.answerFor(err))
		return
	}
	s.joined.Store(true)
	s.log.Info("session joined", "family", s.family.String())
	for {
		it, ok := s.in.next(ctx)
		if !ok {
			return
		}
		s.handle(ctx, it)
	}
}

// join tells the Backend of the socket.
func (s *Session) join(ctx context.Context) error {
	defer s.server.work.begin()()
	return s.server.cfg.Backend.Join(ctx, s)
}

// leave tells the Backend how the socket ended. A socket that has not begun to
// end is left by a panic only.
func (s *Session) leave() {
	s.finish(wire.CloseCause{Cause: wire.CauseFault, Code: wire.CloseInternalError, Reason: wire.ReasonFault}, true)
	cause := s.out.ended().CloseCause
	s.server.cfg.Backend.Leave(s, cause)
	s.log.Info("session left", "cause", cause.Cause.String(), "code", cause.Code, obs.KeyReason, cause.Reason)
}

// admit finds out who the user is. A nil fault means that the socket may join.
func (s *Session) admit(ctx context.Context) *wire.Error {
	if s.refusal != nil {
		return s.refusal
	}
	s.userID = ident.UserID(s.credential)
	if v := s.server.cfg.Validator; v != nil {
		user, fault := s.validate(ctx, v)
		if fault != nil {
			return fault
		}
		s.userID = user
	}
	s.log = s.base.With(obs.KeyUser, s.LogUser())
	if string(s.userID) == s.credential && s.server.cfg.Validator == nil {
		return nil // asked before the upgrade
	}
	if err := s.server.cfg.Backend.Admit(s.userID, s.channelID); err != nil {
		return wire.ErrNotAdmitted()
	}
	return nil
}

func (s *Session) validate(ctx context.Context, v Validator) (ident.UserID, *wire.Error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.ValidationTimeout)
	defer cancel()
	user, err := v.Validate(ctx, s.credential, s.channelID)
	if err == nil && (user == "" || len(user) > maxUserIDBytes) {
		err = errBadUser
	}
	if err == nil {
		return user, nil
	}
	fault := wire.ErrBackendValidation()
	if refusal, ok := errors.AsType[Refusal](err); ok {
		fault = wire.ErrNotMedia()
		if status := refusal.RefusalStatus(); status != 0 {
			fault = wire.ErrValidationFailed(status)
		}
	}
	if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		s.base.Warn("socket not validated", obs.Err(err))
	}
	return "", fault
}

var errBadUser = errors.New("the main server's user id is empty or too long")

// refuse tells the client why it cannot join, and closes the socket.
func (s *Session) refuse(fault *wire.Error) {
	m, _ := wire.ErrorFor(fault, nil)
	s.Send(m)
	s.finish(wire.CloseCause{Cause: wire.CauseRefused, Code: wire.ClosePolicy, Reason: wire.ReasonRefused}, false)
}

// answerFor is the fault that the client is told for any error of the Backend's Join.
func (s *Session) answerFor(err error) *wire.Error {
	m, known := wire.ErrorFor(err, nil)
	if !known {
		s.log.Error("join failed", obs.Err(err))
	}
	return &wire.Error{Text: m.Text, Details: m.Details, Status: m.Status}
}

// handle runs one message and answers its error.
func (s *Session) handle(ctx context.Context, it item) {
	var err error
	if it.fault != nil {
		err = it.fault
	} else {
		err = s.request(ctx, it.req)
	}
	if err == nil || ctx.Err() != nil {
		return
	}
	m, known := wire.ErrorFor(err, it.req.RequestID)
	if known {
		s.log.Debug("request refused", "type", it.req.Type, obs.KeyError, err.Error())
	} else {
		s.log.Error("request failed", "type", it.req.Type, obs.KeyError, err.Error())
	}
	s.Send(m)
}

func (s *Session) request(ctx context.Context, req wire.Request) error {
	switch req.Data.(type) {
	case wire.Ping:
		s.pong(req)
		return nil
	case wire.Pong:
		return nil
	}
	defer s.server.work.begin()()
	if err := s.server.cfg.Backend.Handle(ctx, s, req); err != nil {
		return fmt.Errorf("%s: %w", req.Type, err)
	}
	return nil
}
