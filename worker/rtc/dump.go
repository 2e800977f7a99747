package rtc

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/worker/ortc"
)

// dump copies the object tree, ordered by name within a router and by age within
// a transport.
func (l *Loop) dump(id ident.RouterID) (WorkerDump, error) {
	d := WorkerDump{
		Slot: l.cfg.Slot, PID: l.cfg.PID, Generation: l.cfg.Generation, Epoch: l.cfg.Epoch, RtpCapabilities: ortc.RouterRtpCapabilities(),
	}
	if id != "" {
		r, err := l.routerByID(id)
		if err != nil {
			return d, fmt.Errorf("dump: %w", err)
		}
		d.Routers = []RouterDump{l.dumpRouter(r)}
		return d, nil
	}
	d.Routers = make([]RouterDump, 0, len(l.table.routers))
	for _, r := range l.table.routers {
		d.Routers = append(d.Routers, l.dumpRouter(r))
	}
	slices.SortFunc(d.Routers, func(a, b RouterDump) int { return cmp.Compare(a.ID, b.ID) })
	return d, nil
}

func (l *Loop) dumpRouter(r *router) RouterDump {
	d := RouterDump{
		ID: r.id, Transports: make([]TransportDump, 0, len(r.transports)), AppData: l.ledger.Blob(&r.rec.AppData),
	}
	for _, t := range r.transports {
		d.Transports = append(d.Transports, l.dumpTransport(t))
	}
	slices.SortFunc(d.Transports, func(a, b TransportDump) int { return cmp.Compare(a.ID, b.ID) })
	return d
}

func (l *Loop) dumpTransport(t *transport) TransportDump {
	d := TransportDump{
		ID: t.id, IceState: t.ice.state, DtlsState: t.dtls.state,
		DtlsLocalRole: roleName(t.dtls.role), SrtpProfile: t.srtp.profileName(), Tuple: t.tuple(),
		AppData: l.ledger.Blob(&t.rec.AppData),
	}
	for _, p := range t.producers {
		d.Producers = append(d.Producers, ProducerDump{
			ID: p.id, Paused: p.paused, raw: l.ledger.Blob(&p.rec.Declared),
		})
	}
	for _, c := range t.consumers {
		d.Consumers = append(d.Consumers, ConsumerDump{
			ID: c.id, ProducerID: c.producer.id, Kind: ortc.KindAudio, // there is no other
			Paused: c.paused, ProducerPaused: c.producer.paused, raw: l.ledger.Blob(&c.rec.Params),
		})
	}
	return d
}

// decode fills in what the ledger holds as JSON: not on the loop, which has better to
// do with its time. What cannot be read stays empty: one broken record must not hide
// all others.
func (d *WorkerDump) decode() {
	for i := range d.Routers {
		for j := range d.Routers[i].Transports {
			d.Routers[i].Transports[j].decode()
		}
	}
}

func (d *TransportDump) decode() {
	for i := range d.Producers {
		var declared producerDeclared
		p := &d.Producers[i]
		_ = json.Unmarshal(p.raw, &declared)
		p.Kind, p.RtpParameters, p.ConsumableRtpParameters, p.raw = declared.Kind, declared.Params, declared.Consumable, nil
	}
	for i := range d.Consumers {
		c := &d.Consumers[i]
		_ = json.Unmarshal(c.raw, &c.RtpParameters)
		c.raw = nil
	}
}

// tuple describes the selected path, nil without one.
func (t *transport) tuple() *IceTuple {
	tu := t.ice.selected
	if tu == nil {
		return nil
	}
	local := tu.localAddr()
	d := &IceTuple{
		Protocol:     "udp",
		LocalAddress: local.Addr().Unmap().String(), LocalPort: local.Port(),
		RemoteAddress: tu.addr.Addr().Unmap().String(), RemotePort: tu.addr.Port(),
	}
	if tu.peer != nil {
		d.Protocol = "tcp"
	}
	return d
}
