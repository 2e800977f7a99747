package rtc

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/ledgerfile"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/worker/handshake"
	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/netio"
)

// Resumed counts what a loop found in its ledger.
type Resumed struct {
	Routers, Transports, Producers, Consumers int
	// Dropped are transports that could not be gone on with: their handshake was under
	// way, or what the ledger holds of them makes no sense.
	Dropped int
}

// Resumed is what New found in the ledger.
func (l *Loop) Resumed() Resumed { return l.resumed }

// resume builds the objects that the ledger holds. It reads fixed records only; what
// is written as JSON is looked at when a call needs it.
func (l *Loop) resume() {
	if l.ledger.Routers.Len() == 0 {
		return
	}
	l.resumeRouters()
	transports := l.resumeTransports()
	l.resumeStreams(transports)
	producers := l.resumeProducers(transports)
	l.makeRoomFor(transports, producers)
	for rec := range l.ledger.Consumers.All() {
		t, p := transports[rec.Transport], producers[rec.Producer]
		if t == nil || p == nil || l.table.sent[sentStream{t, rec.SSRC}] != nil {
			l.ledger.Consumers.Free(rec)
			continue
		}
		l.addConsumer(t, p, rec)
	}
	for _, t := range transports {
		l.resumeDTLS(t)
	}
	l.resumed.Routers, l.resumed.Transports = len(l.table.routers), len(l.table.transports)
	l.resumed.Producers, l.resumed.Consumers = len(l.table.producers), len(l.table.consumers)
	l.putDown()
}

// makeRoomFor gives slices and maps of consumers their size at once: growing them costs
// half as much as all the rest.
func (l *Loop) makeRoomFor(transports map[ledger.Ref]*transport, producers map[ledger.Ref]*producer) {
	onTransport, ofProducer := make(map[ledger.Ref]int, len(transports)), make(map[ledger.Ref]int, len(producers))
	for rec := range l.ledger.Consumers.All() {
		onTransport[rec.Transport]++
		ofProducer[rec.Producer]++
	}
	l.table.consumers = make(map[ident.ConsumerID]*consumer, l.ledger.Consumers.Len())
	l.table.sent = make(map[sentStream]*consumer, l.ledger.Consumers.Len())
	for ref, n := range onTransport {
		if t := transports[ref]; t != nil {
			t.consumers = make([]*consumer, 0, n)
		}
	}
	for ref, n := range ofProducer {
		if p := producers[ref]; p != nil {
			p.fan = make([]fanout, 0, n)
		}
	}
}

// resumeRouters builds all routers but those to be skipped, which are wiped.
func (l *Loop) resumeRouters() {
	for rec := range l.ledger.Routers.All() {
		if slices.Contains(l.cfg.SkipRouters, ledgerfile.Mark(rec.Name.String())) {
			l.ledger.Routers.Free(rec)
			continue
		}
		l.addRouter(rec)
	}
}

// resumeTransports builds the transports of the routers there are, by their place in
// the ledger.
func (l *Loop) resumeTransports() map[ledger.Ref]*transport {
	routers := make(map[ledger.Ref]*router, len(l.table.routers))
	for _, r := range l.table.routers {
		routers[r.rec.Ref()] = r
	}
	transports := make(map[ledger.Ref]*transport, l.ledger.Transports.Len())
	for rec := range l.ledger.Transports.All() {
		r := routers[rec.Router]
		if r == nil || l.table.ufrags[string(rec.Ufrag[:])] != nil {
			l.ledger.Transports.Free(rec)
			continue
		}
		t := l.addTransport(r, rec)
		transports[rec.Ref()] = t
		l.resumePaths(t)
	}
	return transports
}

// resumePaths takes the validated addresses back. The clock of consent starts anew: a
// client must not pay for the time in which nobody answered it.
func (l *Loop) resumePaths(t *transport) {
	if !t.rec.Checked {
		return
	}
	ice := &t.ice
	ice.lastCheck = l.now
	for i := range t.rec.Paths {
		p := &t.rec.Paths[i]
		local := netio.LocalFrom(p.Local, p.Scope)
		port := l.portOf(p.V4, local.Addr())
		if p.State.Load() == ledger.PathFree || port == nil {
			p.State.Store(ledger.PathFree)
			continue
		}
		addr := netip.AddrFrom16(p.Addr)
		if p.V4 {
			addr = addr.Unmap()
		}
		src := source{port: port, addr: netip.AddrPortFrom(addr, p.Port), local: local}
		tu := ice.room.take()
		*tu = tuple{
			key: src.key(), transport: t, port: port, addr: src.addr, place: i + 1,
			since: instant(p.Since), checked: instant(p.Checked), nominated: instant(p.Nominated), heard: instant(p.Heard),
		}
		l.claim(tu)
		ice.tuples = append(ice.tuples, tu)
		ice.spoke = ice.spoke || tu.heard != 0
		if p.State.Load() == ledger.PathSelected {
			tu.checked = l.now // its silence begins now, too
			ice.selected = tu
		}
	}
	// Without a selected path it went over TCP, whose connections died with the former
	// process: the client dials again.
	if ice.state = IceDisconnected; ice.selected != nil {
		ice.state = IceConnected
	}
}

// portOf is the UDP socket of a family that is bound to an address, or to all; nil
// without one.
func (l *Loop) portOf(v4 bool, local netip.Addr) *udpPort {
	for _, port := range l.udp {
		at := port.sock.LocalAddr().Addr().Unmap()
		if at.Is4() == v4 && (at == local || at.IsUnspecified() || !local.IsValid()) {
			return port
		}
	}
	return nil
}

func (l *Loop) resumeStreams(transports map[ledger.Ref]*transport) {
	for rec := range l.ledger.Streams.All() {
		t := transports[rec.Transport]
		if t == nil || t.srtp.lookup(rec.SSRC) != nil || len(t.srtp.streams) >= spareStreams+l.cfg.Limits.ProducersPerTransport+l.cfg.Limits.ConsumersPerTransport {
			l.ledger.Streams.Free(rec)
			continue
		}
		t.srtp.addStream(rec)
	}
}

func (l *Loop) resumeProducers(transports map[ledger.Ref]*transport) map[ledger.Ref]*producer {
	producers := make(map[ledger.Ref]*producer, l.ledger.Producers.Len())
	for rec := range l.ledger.Producers.All() {
		t := transports[rec.Transport]
		if t == nil {
			l.ledger.Producers.Free(rec)
			continue
		}
		p := &producer{
			id: ident.ProducerID(rec.Name.String()), rec: rec, transport: t, paused: rec.Paused.Load() != 0,
			payloadType: rec.PayloadType, clockRate: rec.ClockRate,
			midID: rec.MidID, levelID: rec.LevelID, twccID: rec.TwccID,
			nack: rec.Nack, transportFeedback: rec.Feedback, reducedSize: rec.ReducedSize,
			mid: rec.Mid.String(), cname: rec.CName.String(), stream: unlearnt(),
		}
		if s := l.ledger.Streams.Get(ledger.Ref(rec.Stream.Load())); s != nil {
			if known := t.srtp.lookup(s.SSRC); known != nil {
				p.stream = known
			}
		}
		t.producers = append(t.producers, p)
		l.table.producers[p.id] = p
		producers[rec.Ref()] = p
	}
	return producers
}

// resumeDTLS brings a transport's keys back into use. One whose handshake was under way
// is given up: nobody but the former process can go on with it.
func (l *Loop) resumeDTLS(t *transport) {
	rec := t.rec
	t.dtls.role = handshake.Role(rec.Role.Load())
	var err error
	switch {
	case rec.Dtls.Load() == ledger.DtlsDone:
		r := handshake.Result{
			Profile:  handshake.Profile(rec.Profile),
			LocalKey: rec.LocalKey[:], RemoteKey: rec.RemoteKey[:],
		}
		salt := r.Profile.SaltLen()
		r.LocalSalt, r.RemoteSalt = rec.LocalSalt[:salt], rec.RemoteSalt[:salt]
		if err = t.srtp.open(&r); err == nil {
			l.connected(t)
			l.resumeIntroduction(t)
		}
	case rec.Dtls.Load() == ledger.DtlsStarted:
		err = fmt.Errorf("handshake under way: %w", errs.ErrUnavailable)
	case t.dtls.role != 0:
		t.awaited = l.now
		err = json.Unmarshal(l.ledger.Blob(&rec.Remote), &t.dtls.remote)
	}
	if err != nil {
		l.log.Info("transport not resumed", slog.String("router", string(t.router.id)), transportAttr(t), obs.Err(err))
		l.resumed.Dropped++
		t.dtls.state = DtlsFailed
		l.giveUp(t, ReasonDtlsFailed)
	}
}
