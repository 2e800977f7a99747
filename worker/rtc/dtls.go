package rtc

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/worker/handshake"
	"github.com/dspeak/sfu/worker/ledger"
)

const (
	// maxEarlyDTLS bounds the datagrams kept until ConnectTransport.
	maxEarlyDTLS = 4
	// lastFlightFor is how long our last flight is sent again on request.
	lastFlightFor = 30 * time.Second
	// lastFlightEvery bounds how often.
	lastFlightEvery = 100 * time.Millisecond
	// alertEvery bounds how often a transport's alerts are checked.
	alertEvery = 250 * time.Millisecond

	// DTLS record content type (RFC 6347 section 4.1).
	recordAlert = 21
	// recordHeader is the size of a DTLS record header; the epoch is at epochOffset.
	recordHeader = 13
	epochOffset  = 3
)

// dtlsState is where a transport's DTLS stands. The serialised state of a finished
// connection, for alerts, and our last flight are in the ledger alone.
type dtlsState struct {
	remote    []handshake.Fingerprint // nil once connected
	role      handshake.Role          // ours; 0 before ConnectTransport
	state     DtlsState
	handshake *handshake.Handshake // while connecting
	early     [][]byte             // datagrams before ConnectTransport
	flight    bool                 // the ledger holds our last flight
	finished  instant              // when the handshake was done
	resent    instant
	alerted   instant
}

// remoteDTLS is what a ConnectTransport call says, in one spelling.
type remoteDTLS struct {
	role   handshake.Role // ours
	prints []handshake.Fingerprint
}

// connectTransport sets the remote parameters and fixes our role.
func (l *Loop) connectTransport(id ident.TransportID, remote remoteDTLS, request ledger.Digest) (string, error) {
	t, err := l.transportByID(id)
	if err != nil {
		return "", fmt.Errorf("connect: %w", err)
	}
	if t.dtls.role != 0 {
		if t.rec.ConnectedBy == request {
			return roleName(t.dtls.role), nil
		}
		return "", fmt.Errorf("connect transport %s: connected already: %w", id, errs.ErrExists)
	}
	if err := l.recordRemote(t, remote, request); err != nil {
		return "", fmt.Errorf("connect transport %s: %w", id, err)
	}
	t.dtls.role, t.dtls.remote, t.awaited = remote.role, remote.prints, l.now
	l.startClientHandshake(t)
	if remote.role == handshake.Server && len(t.dtls.early) > 0 {
		l.startHandshake(t)
	}
	return roleName(remote.role), nil
}

// recordRemote puts the remote DTLS parameters into the ledger.
func (l *Loop) recordRemote(t *transport, remote remoteDTLS, request ledger.Digest) error {
	b, err := json.Marshal(remote.prints)
	if err != nil {
		return fmt.Errorf("encode fingerprints: %w", err)
	}
	if err := l.ledger.SetBlob(&t.rec.Remote, b); err != nil {
		return err
	}
	t.rec.ConnectedBy = request
	t.rec.Role.Store(uint32(remote.role))
	return nil
}

// readDtlsParameters checks what a client says of itself.
func readDtlsParameters(p DtlsParameters) (remoteDTLS, error) {
	var remote remoteDTLS
	switch p.Role {
	case "", "auto", "client":
		remote.role = handshake.Server
	case "server":
		remote.role = handshake.Client
	default:
		return remote, fmt.Errorf("dtls role %q: %w", p.Role[:min(len(p.Role), 32)], errs.ErrInvalid)
	}
	prints := make([]handshake.Fingerprint, len(p.Fingerprints))
	for i, f := range p.Fingerprints {
		prints[i] = handshake.Fingerprint(f)
	}
	var err error
	remote.prints, err = handshake.ReadFingerprints(prints)
	return remote, err
}

func roleName(r handshake.Role) string {
	switch r {
	case handshake.Server:
		return "server"
	case handshake.Client:
		return "client"
	default:
		return "auto"
	}
}

// startClientHandshake begins the handshake in the client role, once there is
// somewhere to send to. It is tried again at each check.
func (l *Loop) startClientHandshake(t *transport) {
	if t.dtls.role == handshake.Client && t.dtls.state == DtlsNew && t.ice.selected != nil {
		l.startHandshake(t)
	}
}

// startHandshake begins the handshake and feeds it what came early. In the server
// role that is when the first datagram is there: its time limit runs from now on.
// When the pool is full, the peer's next datagram or check tries again.
func (l *Loop) startHandshake(t *transport) {
	h, err := l.pool.Start(handshake.Params{
		Role:     t.dtls.role,
		Remote:   t.dtls.remote,
		HoldLast: true, // a client that has it counts on the keys, which must be in the ledger
		Send: func(datagram []byte) {
			b := slices.Clone(datagram)
			l.mail.offer(func() { l.sendDTLS(t, b) })
		},
		Done: func(r handshake.Result) {
			l.mail.post(func() { l.onHandshakeDone(t, r) })
		},
	})
	if err != nil {
		l.log.Debug("dtls handshake not started", transportAttr(t), obs.Err(err))
		if errors.Is(err, errs.ErrInvalid) {
			t.dtls.state = DtlsFailed
			l.giveUp(t, ReasonDtlsFailed)
		}
		return
	}
	t.dtls.handshake = h
	t.dtls.state = DtlsConnecting
	l.emitState(t)
	for _, b := range t.dtls.early {
		h.Feed(b)
	}
	t.dtls.early = nil
}

// sendDTLS sends a record of a handshake that goes on elsewhere.
func (l *Loop) sendDTLS(t *transport, b []byte) {
	if t.closed {
		return
	}
	if t.rec.Dtls.Load() == ledger.DtlsNew { // from now on nobody else can go on with it
		t.rec.Dtls.Store(ledger.DtlsStarted)
		l.ledger.DropBlob(&t.rec.Remote)
	}
	l.sendFlight(t, b)
}

// sendFlight sends a datagram of a handshake over every path that datagrams of it came
// over lately. Before there are any, which is in the client role, it takes every path
// that the client checks: which of them lead to it is not known yet, and it drops what
// comes twice. Datagrams leave as they come: the order of media packets is free, but a
// Finished before its keys would be lost on the client.
func (l *Loop) sendFlight(t *transport, b []byte) {
	greeted := false
	for _, tu := range t.ice.tuples {
		greeted = greeted || tu.greetedLately(l.now)
	}
	for _, tu := range t.ice.tuples {
		if tu.greetedLately(l.now) || !greeted && l.now-tu.lastSign() < instant(longSilence) {
			l.replyOver(tu, b)
		}
	}
}

// replyOver copies b and queues it for a path, before all media.
func (l *Loop) replyOver(tu *tuple, b []byte) {
	src := tu.source()
	l.reply(tu.transport, &src, b)
}

// onDTLS handles a datagram of DTLS records from a validated address.
func (l *Loop) onDTLS(tu *tuple, b []byte) {
	t := tu.transport
	d := &t.dtls
	if d.state == DtlsNew || d.state == DtlsConnecting {
		l.greeted(tu)
	}
	switch d.state {
	case DtlsNew:
		l.stir()
		if len(d.early) < maxEarlyDTLS {
			d.early = append(d.early, slices.Clone(b))
		}
		if d.role == handshake.Server {
			l.startHandshake(t)
		}
	case DtlsConnecting:
		l.stir()
		d.handshake.Feed(b)
	case DtlsConnected:
		l.onRecord(tu, b)
	case DtlsFailed, DtlsClosed:
		t.count.discarded++
	}
}

// onRecord handles what comes after the handshake: a repeated last flight, when
// ours was lost, or an alert.
func (l *Loop) onRecord(tu *tuple, b []byte) {
	t := tu.transport
	d := &t.dtls
	if len(b) < recordHeader {
		t.count.discarded++
		return
	}
	if b[0] != recordAlert {
		if d.flight && l.now-d.resent >= instant(lastFlightEvery) {
			d.resent = l.now
			for _, datagram := range splitFlight(l.ledger.Blob(&t.rec.LastFlight)) {
				l.replyOver(tu, datagram)
			}
			l.repeatIntroduction(t)
		}
		return
	}
	encrypted := b[epochOffset] != 0 || b[epochOffset+1] != 0
	if !encrypted || l.now-d.alerted < instant(alertEvery) {
		t.count.discarded++
		return
	}
	d.alerted = l.now
	job := alertCheck{state: l.ledger.Blob(&t.rec.State), datagram: slices.Clone(b)}
	job.closed = func() {
		l.mail.post(func() {
			if !t.closed {
				l.giveUp(t, ReasonDtlsClosed)
			}
		})
	}
	if !l.alerts.offer(job) {
		t.count.discarded++
	}
}

// onHandshakeDone takes the outcome of a handshake over.
func (l *Loop) onHandshakeDone(t *transport, r handshake.Result) {
	if t.closed {
		return
	}
	d := &t.dtls
	d.handshake = nil
	if r.Err == nil {
		r.Err = l.finishDTLS(t, &r)
	}
	if r.Err != nil {
		d.state = DtlsFailed
		l.log.Info("dtls failed", transportAttr(t), obs.Err(r.Err))
		l.giveUp(t, ReasonDtlsFailed)
		return
	}
	for _, datagram := range r.LastFlight {
		l.sendFlight(t, datagram)
	}
	l.emitState(t)
}

// finishDTLS takes the keys of a handshake into use, once the ledger has them.
func (l *Loop) finishDTLS(t *transport, r *handshake.Result) error {
	if err := t.srtp.open(r); err != nil {
		return err
	}
	rec := t.rec
	err := l.ledger.SetBlob(&rec.State, r.State)
	if err == nil {
		err = l.ledger.SetBlob(&rec.LastFlight, joinFlight(r.LastFlight))
	}
	if err != nil {
		return err
	}
	copy(rec.LocalKey[:], r.LocalKey)
	copy(rec.LocalSalt[:], r.LocalSalt)
	copy(rec.RemoteKey[:], r.RemoteKey)
	copy(rec.RemoteSalt[:], r.RemoteSalt)
	rec.Profile, rec.Finished = uint16(r.Profile), int64(l.now)
	rec.Dtls.Store(ledger.DtlsDone)
	l.connected(t)
	l.beginIntroduction(t)
	return nil
}

// connected makes a transport ready whose record says that DTLS is done.
func (l *Loop) connected(t *transport) {
	d := &t.dtls
	d.state, d.finished, d.flight = DtlsConnected, instant(t.rec.Finished), !t.rec.LastFlight.Empty()
	d.remote = nil
	t.srtp.rtcpIndex = t.rec.RTCPReserved.Load()
}

// joinFlight makes one text of datagrams, each behind its length.
func joinFlight(flight [][]byte) []byte {
	var b []byte
	for _, datagram := range flight {
		b = binary.BigEndian.AppendUint16(b, uint16(len(datagram)))
		b = append(b, datagram...)
	}
	return b
}

// splitFlight undoes joinFlight.
func splitFlight(b []byte) [][]byte {
	var flight [][]byte
	for len(b) >= 2 {
		n := int(binary.BigEndian.Uint16(b))
		if b = b[2:]; n > len(b) {
			break
		}
		flight = append(flight, b[:n])
		b = b[n:]
	}
	return flight
}

// dropFlight forgets our last flight: the client has it, as it uses the keys.
func (l *Loop) dropFlight(t *transport) {
	if t.dtls.flight {
		t.dtls.flight = false
		l.ledger.DropBlob(&t.rec.LastFlight)
	}
}

// sweepDTLS drops the last flight when nobody can need it any more.
func (l *Loop) sweepDTLS(t *transport) {
	if t.dtls.flight && l.now-t.dtls.finished >= instant(lastFlightFor) {
		l.dropFlight(t)
	}
}
