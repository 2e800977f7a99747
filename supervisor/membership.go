package supervisor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/lapse"
	interopwire "github.com/dspeak/sfu/interop/wire"
	"github.com/dspeak/sfu/signaling"
	"github.com/dspeak/sfu/signaling/wire"
)

// Admit implements signaling.Backend: a kicked user waits.
func (b *backend) Admit(userID ident.UserID, channelID ident.ChannelID) error {
	r := b.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.coolsDownLocked(membership{channelID, userID}) {
		return fmt.Errorf("removed from this channel, try again later: %w", errs.ErrDenied)
	}
	return nil
}

func (r *registry) coolsDownLocked(key membership) bool {
	until, ok := r.kicked[key]
	if ok && time.Now().After(until) {
		delete(r.kicked, key)
		ok = false
	}
	return ok
}

// Join implements signaling.Backend.
func (b *backend) Join(_ context.Context, s *signaling.Session) error {
	r := b.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errSessionClosed
	}
	if r.coolsDownLocked(membership{s.ChannelID(), s.UserID()}) { // removed since Admit
		return wire.ErrNotAdmitted()
	}
	ch := r.channels[s.ChannelID()]
	if ch == nil {
		ch = &channel{id: s.ChannelID(), created: time.Now()}
		r.channels[ch.id] = ch
	}
	u := ch.user(s.UserID())
	fresh, restored := u == nil, false
	if fresh {
		u = &user{id: s.UserID(), channel: ch, joined: time.Now()}
		ch.addUser(u)
	}
	if u.grace != nil {
		u.grace.Stop()
		u.grace, u.mediaFailed, restored = nil, false, true
	}
	r.sessions[s] = u
	connected := wire.Connected{ChannelID: ch.id, UserID: u.id, Message: wire.MessageConnected}
	if restored {
		connected.Message = wire.MessageRestored
	}
	switch { // the socket itself is not the user's yet
	case fresh:
		b.tellPresenceLocked(interopwire.EventJoin, u, "")
		b.changedLocked(ch, changeUsers)
	case restored:
		b.tellPresenceLocked(interopwire.EventRejoin, u, "session restored")
		b.changedLocked(ch, changeReturn)
	}
	if picture := b.inChannelLocked(ch); picture != nil {
		s.SendEncoded(picture)
	}
	s.Send(connected)
	if len(u.sessions) == 0 {
		u.seen = ch.pictures.version
	}
	u.sessions = append(u.sessions, s)
	return nil
}

// Leave implements signaling.Backend: the last socket of a user starts the grace.
func (b *backend) Leave(s *signaling.Session, cause wire.CloseCause) {
	r := b.registry
	r.mu.Lock()
	u := r.sessions[s]
	delete(r.sessions, s)
	if u == nil || u.gone {
		r.mu.Unlock()
		return
	}
	u.sessions = slices.DeleteFunc(u.sessions, func(other *signaling.Session) bool { return other == s })
	if len(u.sessions) > 0 || r.leaving {
		r.mu.Unlock()
		return
	}
	u.askedAs = s.AskedAs()
	var todo cleanup
	if r.closed || b.grace <= 0 {
		todo = b.removeUserLocked(u, "")
	} else {
		b.tellPresenceLocked(interopwire.EventStagedLeave, u, stagedReason(cause.Cause))
		b.startGraceLocked(u)
	}
	r.mu.Unlock()
	b.carryOut(context.Background(), todo)
}

// stagedReason returns what the main server is told of a user's last socket. It
// knows two ends of a socket: whatever is no silence is a close.
func stagedReason(cause wire.Cause) string {
	if cause == wire.CauseHeartbeat {
		return interopwire.ReasonHeartbeatTimeout
	}
	return interopwire.ReasonClientClose
}

// startGraceLocked gives a user without sockets the time to come back.
func (b *backend) startGraceLocked(u *user) {
	u.graces++
	number := u.graces
	u.grace = lapse.AfterFunc(b.grace, func() { b.expire(u, number) })
}

// expire ends the user's grace of that number, unless the user came back meanwhile.
func (b *backend) expire(u *user, number uint64) {
	r := b.registry
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	b.background.Add(1) // under the lock: the end of the process waits for it
	defer b.background.Done()
	var todo cleanup
	if !u.gone && u.grace != nil && u.graces == number {
		todo = b.removeUserLocked(u, "grace period over")
	}
	r.mu.Unlock()
	b.carryOut(context.Background(), todo)
}

// removeUserLocked takes a user and its media out and tells everyone.
func (b *backend) removeUserLocked(u *user, reason string) cleanup {
	ch := u.channel
	u.gone = true
	if u.grace != nil {
		u.grace.Stop()
		u.grace = nil
	}
	for _, s := range u.sessions {
		delete(b.registry.sessions, s)
	}
	u.sessions = nil // what follows is for the others
	if u.producer != nil {
		b.endProducerLocked(u.producer, nil)
	}
	for _, t := range u.transports {
		t.releaseAll()
	}
	ch.dropUser(u)
	var todo cleanup
	if ch.router != nil {
		todo.router = *ch.router
	}
	if len(ch.users) == 0 {
		delete(b.registry.channels, ch.id)
		todo.closeAll = ch.router != nil
	} else {
		for _, t := range u.transports {
			todo.transports = append(todo.transports, t.id)
		}
	}
	b.tellPresenceLocked(interopwire.EventLeave, u, reason)
	b.changedLocked(ch, changeUsers)
	return todo
}

// defaultKickReason is told when nobody gave a reason.
const defaultKickReason = "disconnected by server"

// kick ends a user's presence in a channel at once and returns how many sockets
// were closed. The user may not come back before the cooldown is over, neither by
// id nor by the credentials of the closed sockets, or of the last one of a user who is
// away: before an upgrade there is no other name.
func (b *backend) kick(ctx context.Context, userID ident.UserID, channelID ident.ChannelID, reason string) int {
	if strings.TrimSpace(reason) == "" {
		reason = defaultKickReason
	}
	r := b.registry
	now := time.Now()
	r.mu.Lock()
	for key := range r.kicked {
		r.coolsDownLocked(key)
	}
	cool := func(name ident.UserID) {
		if b.cooldown > 0 {
			r.kicked[membership{channelID, name}] = now.Add(b.cooldown)
		}
	}
	cool(userID)
	var todo cleanup
	var sockets []*signaling.Session
	if ch := r.channels[channelID]; ch != nil {
		if u := ch.user(userID); u != nil {
			sockets = u.sessions
			if u.askedAs != "" {
				cool(u.askedAs)
			}
			for _, s := range sockets {
				cool(s.AskedAs())
				s.Send(wire.ForceDisconnect{Reason: reason})
			}
			todo = b.removeUserLocked(u, reason)
		}
	}
	r.mu.Unlock()
	b.kicks.Add(1)
	b.carryOut(ctx, todo)
	for _, s := range sockets {
		s.Close(wire.ClosePolicy, reason)
	}
	return len(sockets)
}
