package supervisor

import (
	"context"
	"time"

	"github.com/dspeak/sfu/internal/ident"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/signaling"
	"github.com/dspeak/sfu/signaling/wire"
)

// announceTimeout is how long a request waits for the first address to announce. It leaves
// time for the call that follows.
const announceTimeout = callTimeout - placeTimeout

// announced is what the client is told of a slot's addresses. While there is nothing to
// tell the request waits, and is refused then: candidates are fixed for a transport's life,
// so that one without any would never connect. awaitAddresses ends the sockets of refused
// users.
func (c *call) announced(ctx context.Context, slot ident.Slot) (workerv1.AddressFamily, []*workerv1.AnnouncedAddress, error) {
	timer := time.NewTimer(announceTimeout)
	defer timer.Stop()
	select {
	case <-c.addresses.known:
	case <-timer.C:
	case <-ctx.Done():
	}
	if !c.addresses.isKnown() {
		c.strand()
	}
	// Asked again after the note: who comes too late for awaitAddresses gets addresses.
	if !c.addresses.isKnown() {
		return 0, nil, wire.ErrRouterNotReady()
	}
	family, list := c.addresses.forClient(c.session.Family(), slot)
	return family, list, nil
}

// strand notes that the user waits for addresses in vain.
func (c *call) strand() {
	c.registry.mu.Lock()
	defer c.registry.mu.Unlock()
	if u := c.userLocked(); u != nil {
		u.stranded = true
	}
}

// awaitAddresses tells the main server while there is nothing to announce. Then it ends the
// sockets of those whose requests were refused meanwhile: clients dial again, and begin anew.
func (b *backend) awaitAddresses(ctx context.Context) {
	f := fault{kind: unannounced}
	if !b.addresses.isKnown() {
		b.setFault(f, b.addresses.missing())
	}
	select {
	case <-b.addresses.known:
	case <-ctx.Done():
		return
	}
	b.setFault(f, "")
	for _, s := range b.stranded() {
		s.Close(wire.CloseTryLater, wire.ReasonAddresses)
	}
}

// stranded returns the sockets of stranded users, who are so no more.
func (b *backend) stranded() []*signaling.Session {
	b.registry.mu.Lock()
	defer b.registry.mu.Unlock()
	var sockets []*signaling.Session
	for s, u := range b.registry.sessions {
		if u.stranded {
			sockets = append(sockets, s)
		}
	}
	for _, s := range sockets {
		b.registry.sessions[s].stranded = false
	}
	return sockets
}
