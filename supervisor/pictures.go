package supervisor

import (
	"github.com/dspeak/sfu/internal/obs"
	interopwire "github.com/dspeak/sfu/interop/wire"
	"github.com/dspeak/sfu/signaling"
	"github.com/dspeak/sfu/signaling/wire"
)

// crowdAbove is how many users a channel may have whose pictures go out with each
// change. One with more is a crowd, whose pictures are paced: see crowds.
const crowdAbove = 20

// change is what differs in a channel; several are added up.
type change int

const (
	// changeReturn: a user is back, in a picture that stays as it is.
	changeReturn change = 1 << iota
	// changeUsers: a user joined, or left for good.
	changeUsers
	// changeProduce: a producer started.
	changeProduce
	// changeProducers: producers ended.
	changeProducers
)

// pictures is what the users of a channel, and the main server, are told of it as a
// whole. All fields are guarded by the registry's mu.
type pictures struct {
	// version counts the changes; produced is that of the last produce.
	version, produced uint64
	// untold is what has changed since everyone was told, or in a crowd since the round began.
	untold change
	// inChannel and available are the present pictures, nil until somebody needs them.
	inChannel, available *wire.Encoded
	pace                 pace
}

// crowded reports whether the channel's pictures are paced.
func (ch *channel) crowded() bool { return len(ch.users) > crowdAbove }

// changedLocked tells everyone in the channel of a change: at once, or in a crowd when
// it is time. The events that name what changed are not its business.
func (b *backend) changedLocked(ch *channel, what change) {
	p := &ch.pictures
	p.version++
	p.untold |= what
	if what&changeProduce != 0 {
		p.produced = p.version
	}
	if what != changeReturn {
		p.inChannel, p.available = nil, nil
	}
	if ch.crowded() {
		b.crowds.add(ch)
		return
	}
	b.crowds.remove(ch)
	for _, u := range ch.users {
		b.showLocked(u, (*signaling.Session).SendEncoded)
	}
	b.toldLocked(ch)
}

// toldLocked notes that the clients are being told of all changes, and tells the main
// server who is there, if that has changed.
func (b *backend) toldLocked(ch *channel) {
	p := &ch.pictures
	if p.untold&changeUsers != 0 {
		b.syncPresenceLocked(ch)
	}
	p.untold = 0
}

// showLocked sends the present pictures to the user's sockets, unless they were sent
// before. It returns how many bytes that takes.
func (b *backend) showLocked(u *user, send func(*signaling.Session, *wire.Encoded)) (bytes int) {
	p := &u.channel.pictures
	if u.seen == p.version {
		return 0
	}
	pictures := []*wire.Encoded{b.inChannelLocked(u.channel)}
	if u.seen < p.produced {
		pictures = append(pictures, b.availableLocked(u.channel))
	}
	u.seen = p.version
	for _, s := range u.sessions {
		for _, picture := range pictures {
			if picture != nil {
				send(s, picture)
				bytes += len(picture.Bytes())
			}
		}
	}
	return bytes
}

// inChannelLocked is the present picture of who is in the channel, encoded once for
// all who need it.
func (b *backend) inChannelLocked(ch *channel) *wire.Encoded {
	p := &ch.pictures
	if p.inChannel == nil {
		m := wire.CurrentlyInChannel{Producers: ch.productions()}
		for _, u := range ch.users {
			m.InRoom = append(m.InRoom, u.id)
		}
		p.inChannel = b.encode(m)
	}
	return p.inChannel
}

// availableLocked is the present picture of the channel's producers.
func (b *backend) availableLocked(ch *channel) *wire.Encoded {
	p := &ch.pictures
	if p.available == nil {
		p.available = b.encode(wire.AvailableProducers{Producers: ch.productions()})
	}
	return p.available
}

// encode returns nil for a message that cannot be encoded, which is logged.
func (b *backend) encode(m wire.Message) *wire.Encoded {
	encoded, err := wire.Encode(m)
	if err != nil {
		b.log.Error("message cannot be encoded", obs.Err(err))
		return nil
	}
	return encoded
}

func (ch *channel) productions() []wire.Production {
	all := make([]wire.Production, len(ch.producers))
	for i, p := range ch.producers {
		all[i] = wire.Production{ID: p.id, UserID: p.user.id}
	}
	return all
}

// syncPresenceLocked tells the main server who is in the channel.
func (b *backend) syncPresenceLocked(ch *channel) {
	m := interopwire.ChannelPresenceSync{ChannelID: ch.id}
	for _, u := range ch.users {
		m.UserIDs = append(m.UserIDs, u.id)
	}
	b.presence.Send(m)
}
