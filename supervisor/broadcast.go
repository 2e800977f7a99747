package supervisor

import (
	"time"

	interopwire "github.com/dspeak/sfu/interop/wire"
	"github.com/dspeak/sfu/signaling"
	"github.com/dspeak/sfu/signaling/wire"
)

// broadcastLocked sends a message to every socket in the channel but the given
// user's.
func (b *backend) broadcastLocked(ch *channel, except *user, m wire.Message) {
	encoded := b.encode(m)
	if encoded == nil {
		return
	}
	crowded := ch.crowded()
	for _, u := range ch.users {
		if u == except {
			continue
		}
		for _, s := range u.sessions {
			if crowded {
				s.SendToCrowd(encoded)
			} else {
				s.SendEncoded(encoded)
			}
		}
	}
}

// endProducerLocked drops a producer and tells the others and the main server. by is
// the socket that asked for it, nil for none. Another socket of the same user counts
// as another: it may have sent the producer, or hear it.
func (b *backend) endProducerLocked(p *producer, by *signaling.Session) {
	u := p.user
	closed := b.forgetProducerLocked(p)
	if by == nil {
		by = p.session
	}
	for _, s := range u.sessions {
		if s != by && len(u.sessions) > 1 {
			s.Send(closed)
		}
	}
}

// forgetProducerLocked drops a producer and tells the other users and the main server.
func (b *backend) forgetProducerLocked(p *producer) wire.ProducerClosed {
	u := p.user
	b.registry.dropProducerLocked(p)
	closed := wire.ProducerClosed{ProducerID: p.id, UserID: u.id}
	b.broadcastLocked(u.channel, u, closed)
	b.presence.Send(interopwire.MediaProducer{
		Event: interopwire.EventRemove, UserID: u.id, ChannelID: u.channel.id, ProducerID: p.id, Time: time.Now(),
	})
	b.tellPresenceLocked(interopwire.EventStopProduce, u, "")
	return closed
}

// tellPresenceLocked tells the main server of a user.
func (b *backend) tellPresenceLocked(event interopwire.PresenceEvent, u *user, reason string) {
	b.presence.Send(interopwire.MediaPresence{
		Event: event, UserID: u.id, ChannelID: u.channel.id, Time: time.Now(), Reason: reason,
	})
}
