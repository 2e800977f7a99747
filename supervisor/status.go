package supervisor

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/interop"
	interopwire "github.com/dspeak/sfu/interop/wire"
)

// silence takes the news when there is no main server.
type silence struct{}

func (silence) Send(interopwire.Message) {}

// setFault notes what is wrong with a slot, "" for nothing, and tells the main
// server when that changed.
func (b *backend) setFault(slot ident.Slot, fault string) {
	b.statusMu.Lock()
	defer b.statusMu.Unlock()
	if b.fault[slot] == fault {
		return
	}
	if fault == "" {
		delete(b.fault, slot)
	} else {
		b.fault[slot] = fault
	}
	b.presence.Send(b.statusLocked())
}

func (b *backend) statusLocked() interopwire.SfuStatus {
	if len(b.fault) == 0 {
		return interopwire.SfuStatus{Status: interopwire.StatusOK, Details: "all workers serve"}
	}
	faults := make([]string, 0, len(b.fault))
	for _, slot := range slices.Sorted(maps.Keys(b.fault)) {
		faults = append(faults, b.fault[slot])
	}
	return interopwire.SfuStatus{Status: interopwire.StatusError, Details: strings.Join(faults, "; ")}
}

// Snapshot implements interop.Backend.
func (b *backend) Snapshot() (interopwire.SfuStatus, []interop.ChannelUsers) {
	b.statusMu.Lock()
	status := b.statusLocked()
	b.statusMu.Unlock()
	b.registry.mu.Lock()
	defer b.registry.mu.Unlock()
	channels := make([]interop.ChannelUsers, 0, len(b.registry.channels))
	for _, ch := range b.registry.channels {
		users := interop.ChannelUsers{ChannelID: ch.id}
		for _, u := range ch.users {
			users.UserIDs = append(users.UserIDs, u.id)
		}
		channels = append(channels, users)
	}
	return status, channels
}

// ForceDisconnect implements interop.Backend.
func (b *backend) ForceDisconnect(ctx context.Context, userID ident.UserID, channelID ident.ChannelID, reason string) error {
	b.kick(ctx, userID, channelID, reason)
	return nil
}
