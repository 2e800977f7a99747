package rtc

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/stun"
)

// maxAnnounced bounds the addresses of one transport.
const maxAnnounced = 32

// transport is one client connection: ICE, DTLS and SRTP state, and the producers
// and consumers that use it. It belongs to the loop.
type transport struct {
	id      ident.TransportID
	rec     *ledger.Transport
	router  *router
	awaited instant // since when the first check is due; see sweepICE
	index   int     // in objectTable.list
	closed  bool

	ice  iceState
	dtls dtlsState
	srtp srtpState

	producers []*producer
	consumers []*consumer

	pending pendingPackets
	rtcp    reportState
	intro   introduction
	count   transportCounters
}

// transportCounters are as in TransportStats.
type transportCounters struct {
	received, bytesReceived uint64
	sent, bytesSent         uint64
	discarded, dropped      uint64
}

func transportAttr(t *transport) slog.Attr { return slog.String(obs.KeyTransport, string(t.id)) }

func (l *Loop) transportByID(id ident.TransportID) (*transport, error) {
	if t := l.table.transports[id]; t != nil {
		l.take(t.router)
		return t, nil
	}
	return nil, fmt.Errorf("transport %s: %w", id, errs.ErrNotFound)
}

func (l *Loop) createTransport(p CreateTransportParams) (TransportInfo, error) {
	if err := checkID("transport", string(p.ID)); err != nil {
		return TransportInfo{}, err
	}
	r, err := l.routerByID(p.Router)
	if err != nil {
		return TransportInfo{}, fmt.Errorf("create transport: %w", err)
	}
	switch old := l.table.transports[p.ID]; {
	case old != nil && old.rec.Request == p.request:
		return l.transportInfo(old, &p)
	case old != nil:
		return TransportInfo{}, fmt.Errorf("create transport %s: %w", p.ID, errs.ErrExists)
	case len(l.table.list) >= l.cfg.Limits.Transports:
		return TransportInfo{}, fmt.Errorf("create transport: %d transports: %w", len(l.table.list), errs.ErrExhausted)
	}
	if _, err := l.candidates(&p); err != nil {
		return TransportInfo{}, fmt.Errorf("create transport: %w", err)
	}
	rec, err := l.recordTransport(r, &p)
	if err != nil {
		return TransportInfo{}, fmt.Errorf("create transport: %w", err)
	}
	return l.transportInfo(l.addTransport(r, rec), &p)
}

// recordTransport puts a new transport into the ledger.
func (l *Loop) recordTransport(r *router, p *CreateTransportParams) (*ledger.Transport, error) {
	if err := checkAppData(p.AppData, maxTransportAppData); err != nil {
		return nil, err
	}
	rec, err := l.ledger.Transports.New()
	if err != nil {
		return nil, err
	}
	if err := l.ledger.SetBlob(&rec.AppData, p.AppData); err != nil {
		l.ledger.Transports.Free(rec)
		return nil, err
	}
	ufrag, password := newICECredentials()
	for l.table.ufrags[ufrag] != nil {
		ufrag, password = newICECredentials()
	}
	copy(rec.Ufrag[:], ufrag)
	copy(rec.Password[:], password)
	rec.Name.Set(string(p.ID))
	rec.Router, rec.Family, rec.Request = r.rec.Ref(), uint8(p.Family), p.request
	rec.RTCPSSRC, rec.SSRCKey = randomUint32(), randomUint32()
	l.ledger.Transports.Commit(rec)
	return rec, nil
}

// addTransport puts a transport of the ledger in its place, as it is before anything
// was received.
func (l *Loop) addTransport(r *router, rec *ledger.Transport) *transport {
	// One text for three: see room.
	text := string(rec.Ufrag[:]) + string(rec.Password[:]) + rec.Name.String()
	password, name := text[ledger.UfragSize:][:ledger.PasswordSize], text[ledger.UfragSize+ledger.PasswordSize:]
	t := &transport{id: ident.TransportID(name), rec: rec, router: r, index: len(l.table.list)}
	t.ice.state, t.dtls.state = IceNew, DtlsNew
	cred := &t.ice.credentials
	cred.ufrag, cred.password = text[:ledger.UfragSize], password
	cred.auth = stun.NewAuthenticator(l.mac, cred.password)
	t.srtp.rec = rec
	l.table.transports[t.id] = t
	l.table.ufrags[cred.ufrag] = t
	l.table.list = append(l.table.list, t)
	r.transports = append(r.transports, t)
	l.scheduleReports(t)
	l.stir()
	return t
}

// transportInfo is what a client needs to reach a transport that was made with p.
func (l *Loop) transportInfo(t *transport, p *CreateTransportParams) (TransportInfo, error) {
	candidates, err := l.candidates(p)
	if err != nil {
		return TransportInfo{}, fmt.Errorf("transport %s: %w", p.ID, err)
	}
	cred := &t.ice.credentials
	return TransportInfo{
		IceParameters:  IceParameters{UsernameFragment: cred.ufrag, Password: cred.password, IceLite: true},
		IceCandidates:  candidates,
		DtlsParameters: DtlsParameters{Role: "auto", Fingerprints: l.fingerprints},
	}, nil
}

func (l *Loop) setTransportAppData(id ident.TransportID, appData []byte) error {
	t, err := l.transportByID(id)
	if err == nil {
		err = checkAppData(appData, maxTransportAppData)
	}
	if err == nil {
		err = l.ledger.SetBlob(&t.rec.AppData, appData)
	}
	if err != nil {
		return fmt.Errorf("set app data: %w", err)
	}
	return nil
}

// candidates lists what a client may send its checks to.
func (l *Loop) candidates(p *CreateTransportParams) ([]IceCandidate, error) {
	announced := p.Announced
	if len(announced) == 0 {
		announced = l.cfg.Announced
	}
	if len(announced) > maxAnnounced {
		return nil, fmt.Errorf("%d announced addresses, want at most %d: %w", len(announced), maxAnnounced, errs.ErrInvalid)
	}
	if p.Family > FamilyIPv6 {
		return nil, fmt.Errorf("address family %d: %w", p.Family, errs.ErrInvalid)
	}
	var list []IceCandidate
	for i, a := range announced {
		if !a.IsValid() || a.Port() == 0 {
			return nil, fmt.Errorf("announced address %q: %w", a.String(), errs.ErrInvalid)
		}
		addr := a.Addr().Unmap().WithZone("")
		v4 := addr.Is4()
		if p.Family == FamilyIPv4 && !v4 || p.Family == FamilyIPv6 && v4 {
			continue
		}
		if l.servesUDP(v4) {
			list = append(list, newCandidate(addr, a.Port(), "udp", i))
		}
		if l.servesTCP(v4) {
			list = append(list, newCandidate(addr, a.Port(), "tcp", i))
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no announced address of the wanted family: %w", errs.ErrInvalid)
	}
	return list, nil
}

// newCandidate makes the host candidate of the announced address with the given
// rank. UDP goes before TCP, an earlier address before a later one.
func newCandidate(addr netip.Addr, port uint16, protocol string, rank int) IceCandidate {
	const (
		hostPreference = 126 // RFC 8445 section 5.1.2.2
		component      = 1   // RTP and RTCP share it
	)
	local := uint32(65535 - rank)
	c := IceCandidate{
		Foundation: protocol + strconv.Itoa(rank),
		IP:         addr.String(), Address: addr.String(),
		Protocol: protocol, Port: port, Type: "host",
	}
	if protocol == "tcp" {
		c.TCPType = "passive"
		// RFC 6544 section 4.2: UDP-based candidates are preferred.
		local -= 1 << 14
	}
	c.Priority = hostPreference<<24 | local<<8 | (256 - component)
	return c
}

func (l *Loop) servesUDP(v4 bool) bool {
	for _, port := range l.udp {
		if port.sock.LocalAddr().Addr().Unmap().Is4() == v4 {
			return true
		}
	}
	return false
}

func (l *Loop) servesTCP(v4 bool) bool {
	for _, listener := range l.listeners {
		if listener.LocalAddr().Addr().Unmap().Is4() == v4 {
			return true
		}
	}
	return false
}

func (l *Loop) closeTransportCall(id ident.TransportID) error {
	t, err := l.transportByID(id)
	if err != nil {
		return fmt.Errorf("close: %w", err)
	}
	l.destroyTransport(t)
	return nil
}

// giveUp closes a transport on the loop's own account and says so.
func (l *Loop) giveUp(t *transport, reason string) {
	l.destroyTransport(t)
	l.emit(Event{
		Kind: EventTransportClosed, Router: t.router.id, Transport: t.id, Reason: reason,
		IceState: t.ice.state, DtlsState: t.dtls.state,
	})
}

// destroyTransport closes a transport with everything on it and forgets it.
func (l *Loop) destroyTransport(t *transport) {
	if t.closed {
		return
	}
	l.ledger.Transports.Condemn(t.rec) // a successor goes on with all of it, or with nothing
	l.sayGoodbye(t, t.consumers)
	for len(t.consumers) > 0 {
		l.destroyConsumer(t.consumers[len(t.consumers)-1])
	}
	for len(t.producers) > 0 {
		l.destroyProducer(t.producers[len(t.producers)-1])
	}
	l.flush() // while the path still exists
	t.closed = true
	if t.dtls.handshake != nil {
		t.dtls.handshake.Close()
		t.dtls.handshake = nil
	}
	l.forgetPaths(t)
	t.ice.state = IceClosed
	if t.dtls.state != DtlsFailed {
		t.dtls.state = DtlsClosed
	}
	delete(l.table.transports, t.id)
	delete(l.table.ufrags, t.ice.credentials.ufrag)
	t.router.remove(t)
	last := len(l.table.list) - 1
	l.table.list[t.index] = l.table.list[last]
	l.table.list[t.index].index = t.index
	l.table.list[last] = nil
	l.table.list = l.table.list[:last]
	for _, s := range t.srtp.streams {
		l.ledger.Streams.Free(s.rec)
	}
	l.ledger.Transports.Free(t.rec)
	t.rec, t.srtp.rec, t.srtp.streams = nil, nil, nil // they may be another's from now on
}
