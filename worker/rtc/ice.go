package rtc

import (
	"crypto/rand"
	"time"

	"github.com/dspeak/sfu/worker/stun"
)

const (
	// checksOverdue is when a connected transport is called disconnected: browsers
	// check every 2.5 to 6 s.
	checksOverdue = 15 * time.Second

	ufragLength    = 16
	passwordLength = 32
)

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
	followed    instant  // when the client's packets last moved selected
	spoke       bool     // RTP or RTCP authenticated, as far as this process knows
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

// onValidCheck notes the path and what the check tells of it.
func (l *Loop) onValidCheck(t *transport, req *stun.Request, src *source) {
	ice := &t.ice
	ice.lastCheck = l.now
	if ice.remoteUfrag != string(req.RemoteUfrag) {
		ice.remoteUfrag = string(req.RemoteUfrag)
	}
	tu := l.learn(t, src)
	tu.noteCheck(l.now, req.UseCandidate)
	l.confirmSource(tu)
	if ice.selected == nil || tu != ice.selected && tu.preferredTo(ice.selected, l.now) {
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
	l.leaveSilentPath(t)
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
