package interop

import (
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/interop/wire"
)

// picture is what the main server may believe: the channels in which it was told
// of users. A channel that emptied stays until a ping that was sent later has
// been answered, because what was written last may never have arrived.
type picture struct {
	channels map[ident.ChannelID]*channelPicture
	pings    uint64 // sent so far
}

type channelPicture struct {
	users map[ident.UserID]struct{}
	// emptied is how many pings had been sent when the last user left.
	emptied uint64
}

// note takes in a message that is about to be written.
func (p *picture) note(m wire.Message) {
	switch m := m.(type) {
	case wire.MediaPresence:
		switch m.Event {
		case wire.EventJoin, wire.EventRejoin:
			p.channel(m.ChannelID).users[m.UserID] = struct{}{}
		case wire.EventLeave:
			ch := p.channel(m.ChannelID)
			delete(ch.users, m.UserID)
			ch.emptied = p.pings
		case wire.EventStagedLeave, wire.EventStartProduce, wire.EventStopProduce: // the user is still there
		}
	case wire.ChannelPresenceSync:
		ch := p.channel(m.ChannelID)
		clear(ch.users)
		for _, user := range m.UserIDs {
			ch.users[user] = struct{}{}
		}
		ch.emptied = p.pings
	}
}

func (p *picture) channel(id ident.ChannelID) *channelPicture {
	ch := p.channels[id]
	if ch == nil {
		ch = &channelPicture{users: map[ident.UserID]struct{}{}}
		p.channels[id] = ch
	}
	return ch
}

// nextPing is the number of a new ping.
func (p *picture) nextPing() uint64 {
	p.pings++
	return p.pings
}

// forget drops the empty channels of which the main server has heard: ping
// number confirmed was answered.
func (p *picture) forget(confirmed uint64) {
	for id, ch := range p.channels {
		if len(ch.users) == 0 && ch.emptied < confirmed {
			delete(p.channels, id)
		}
	}
}

// known is the set of channels in which the main server may believe users.
func (p *picture) known() map[ident.ChannelID]struct{} {
	set := make(map[ident.ChannelID]struct{}, len(p.channels))
	for id := range p.channels {
		set[id] = struct{}{}
	}
	return set
}
