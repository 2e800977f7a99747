package rtc

import (
	"crypto/rand"
	"net/netip"
	"time"

	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/stun"
)

const (
	// maxTuples bounds the validated addresses that a transport remembers.
	maxTuples = ledger.MaxPaths
	// checksOverdue is when a connected transport is called disconnected: browsers
	// check every 2.5 to 6 s.
	checksOverdue = 15 * time.Second
	// freshCheck is how long a check speaks for its path when two nominated paths
	// of different protocols compete.
	freshCheck = 4 * time.Second

	ufragLength    = 16
	passwordLength = 32
)

// tuple is a validated path to a client.
type tuple struct {
	key       tupleKey
	port      *udpPort // nil: TCP
	addr      netip.AddrPort
	peer      *tcpPeer // nil: UDP
	lastCheck instant
	nominated bool
	place     int // in the ledger's paths, from 1; 0: none
}

// iceState is the responder's state of one transport (RFC 8445, lite).
// credentials are declared, the rest is earned.
type iceState struct {
	credentials struct {
		ufrag, password string
		auth            stun.Authenticator
	}
	state       IceState
	tuples      []*tuple // validated, at most maxTuples
	selected    *tuple   // where packets go; nil before the first valid check
	room        room[tuple]
	remoteUfrag string  // as the last valid check named it
	lastCheck   instant // of any path; 0: never
}

// newICECredentials makes a user fragment and a password. Both hold only
// ice-char (RFC 8839 section 5.4).
func newICECredentials() (ufrag, password string) {
	return rand.Text()[:ufragLength], rand.Text() + rand.Text()[:passwordLength-26]
}

// onSTUN answers a binding request. Nothing but a valid one, with our user
// fragment and the right integrity, changes any state.
func (l *Loop) onSTUN(b []byte, src *source) {
	req, err := stun.Parse(b)
	if err != nil {
		l.count.malformed++
		return
	}
	if req.Indication {
		return // a keep-alive; it proves nothing
	}
	// The compiler looks a []byte up without making a string of it.
	t := l.table.ufrags[string(req.LocalUfrag)]
	if t == nil {
		l.count.unknownUfrag++
		return
	}
	l.take(t.router)
	t.count.received++
	t.count.bytesReceived += uint64(len(b))
	auth := t.ice.credentials.auth
	if !auth.Verify(&req) {
		t.count.discarded++
		l.count.badIntegrity++
		l.reply(t, src, auth.AppendError(l.scratch.stun[:0], req.TransactionID, 401, "Unauthorized"))
		return
	}
	switch {
	case req.Unknown != 0:
		l.reply(t, src, auth.AppendUnknown(l.scratch.stun[:0], req.TransactionID, req.Unknown))
	case req.Controlled:
		// We are lite, hence always controlled (RFC 8445 section 6.1.1).
		l.reply(t, src, auth.AppendError(l.scratch.stun[:0], req.TransactionID, 487, "Role Conflict"))
	default:
		l.reply(t, src, auth.AppendSuccess(l.scratch.stun[:0], req.TransactionID, src.addr))
		l.onValidCheck(t, &req, src)
	}
}

// onValidCheck notes the path and follows the client's choice.
func (l *Loop) onValidCheck(t *transport, req *stun.Request, src *source) {
	ice := &t.ice
	ice.lastCheck = l.now
	if ice.remoteUfrag != string(req.RemoteUfrag) {
		ice.remoteUfrag = string(req.RemoteUfrag)
	}
	tu := l.learn(t, src)
	tu.lastCheck = l.now
	tu.nominated = tu.nominated || req.UseCandidate
	if ice.selected == nil || req.UseCandidate && ice.moves(tu, l.now) {
		ice.selected = tu
	}
	if ice.state != IceConnected {
		l.stir()
		ice.state = IceConnected
		l.emitState(t)
	}
	t.rec.Checked = true
	t.recordPaths()
	l.startClientHandshake(t)
}

// moves says whether a nominated path takes over from the selected one. A client
// may nominate several paths (RFC 5245 called it aggressive); then UDP goes before
// TCP while both are alive. Otherwise the latest nomination wins.
func (ice *iceState) moves(tu *tuple, now instant) bool {
	old := ice.selected
	competing := old != tu && old.nominated && now-old.lastCheck < instant(freshCheck)
	return !competing || old.peer != nil || tu.peer == nil
}

// learn returns the tuple of a validated source, making it if need be.
func (l *Loop) learn(t *transport, src *source) *tuple {
	if src.peer != nil {
		return l.learnPeer(t, src.peer)
	}
	key := src.key()
	l.claim(t, key)
	for _, tu := range t.ice.tuples {
		if tu.peer == nil && tu.key == key {
			return tu
		}
	}
	return l.addTuple(t, tuple{key: key, port: src.port, addr: src.addr})
}

// claim makes t the owner of a remote address. A former owner stays second.
func (l *Loop) claim(t *transport, key tupleKey) {
	c := l.table.tuples[key]
	switch {
	case c.owner == nil:
		l.table.tuples[key] = claim{owner: t}
	case c.owner == t || c.former == t:
	default:
		l.table.tuples[key] = claim{owner: t, former: c.owner}
	}
}

// unclaim takes t out of the ownership of a remote address.
func (l *Loop) unclaim(t *transport, key tupleKey) {
	c := l.table.tuples[key]
	if c.former == t {
		c.former = nil
	}
	if c.owner == t {
		c = claim{owner: c.former}
	}
	if c.owner == nil {
		delete(l.table.tuples, key)
		return
	}
	l.table.tuples[key] = c
}

// learnPeer gives a TCP connection to the transport whose password its client knows.
func (l *Loop) learnPeer(t *transport, peer *tcpPeer) *tuple {
	if old := peer.transport; old != nil && old != t {
		old.ice.forgetPeer(peer)
		l.checkSelected(old)
	}
	peer.transport = t
	for _, tu := range t.ice.tuples {
		if tu.peer == peer {
			return tu
		}
	}
	return l.addTuple(t, tuple{addr: peer.conn.RemoteAddr(), peer: peer})
}

// addTuple remembers a path; the one longest without a check makes room.
func (l *Loop) addTuple(t *transport, v tuple) *tuple {
	ice := &t.ice
	if len(ice.tuples) >= maxTuples {
		oldest := -1
		for i, other := range ice.tuples {
			if other != ice.selected && (oldest < 0 || other.lastCheck < ice.tuples[oldest].lastCheck) {
				oldest = i
			}
		}
		l.dropTuple(t, oldest)
	}
	tu := ice.room.take()
	*tu = v
	ice.tuples = append(ice.tuples, tu)
	return tu
}

// dropTuple forgets the path with index i.
func (l *Loop) dropTuple(t *transport, i int) {
	tu := t.ice.tuples[i]
	t.ice.tuples = append(t.ice.tuples[:i], t.ice.tuples[i+1:]...)
	if tu.peer == nil {
		l.unclaim(t, tu.key)
		t.recordPaths()
		return
	}
	if tu.peer.transport == t {
		tu.peer.transport = nil
		tu.peer.since = l.now // nobody's again: it gets the time of a new connection
	}
}

// forgetPeer removes the path over a TCP connection that ended or changed hands.
func (ice *iceState) forgetPeer(peer *tcpPeer) {
	for i, tu := range ice.tuples {
		if tu.peer == peer {
			ice.tuples = append(ice.tuples[:i], ice.tuples[i+1:]...)
			if ice.selected == tu {
				ice.selected = nil
			}
			return
		}
	}
}

// checkSelected picks another path when the selected one is gone: the one checked
// last. Without any the transport is disconnected until the next valid check.
func (l *Loop) checkSelected(t *transport) {
	ice := &t.ice
	if ice.selected != nil {
		return
	}
	for _, tu := range ice.tuples {
		if ice.selected == nil || tu.lastCheck > ice.selected.lastCheck {
			ice.selected = tu
		}
	}
	t.recordPaths()
	if ice.selected == nil && ice.state == IceConnected {
		ice.state = IceDisconnected
		l.emitState(t)
	}
}

// sweepICE looks after a transport's timeouts. It returns the reason for closing
// the transport, empty to go on.
func (l *Loop) sweepICE(t *transport) string {
	ice := &t.ice
	if ice.lastCheck == 0 {
		// Clients connect a transport with their first producer or consumer: somebody who
		// waits alone for hours must still have it. Until then it is the caller's to close.
		if t.dtls.role != 0 && l.now-t.awaited >= instant(l.cfg.UnconnectedTimeout) {
			return ReasonNeverConnected
		}
		return ""
	}
	silent := l.now - ice.lastCheck
	if silent >= instant(l.cfg.ConsentTimeout) {
		return ReasonConsentExpired
	}
	if ice.state == IceConnected && silent >= min(instant(checksOverdue), instant(l.cfg.ConsentTimeout)/2) {
		ice.state = IceDisconnected
		l.emitState(t)
	}
	return ""
}
