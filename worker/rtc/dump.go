package rtc

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
)

// dump copies the object tree, ordered by name within a router and by age within
// a transport.
func (l *Loop) dump(id ident.RouterID) (WorkerDump, error) {
	d := WorkerDump{Slot: l.cfg.Slot, PID: l.cfg.PID, Generation: l.cfg.Generation}
	if id != "" {
		r := l.table.routers[id]
		if r == nil {
			return d, fmt.Errorf("dump router %s: %w", id, errs.ErrNotFound)
		}
		d.Routers = []RouterDump{r.dump()}
		return d, nil
	}
	d.Routers = make([]RouterDump, 0, len(l.table.routers))
	for _, r := range l.table.routers {
		d.Routers = append(d.Routers, r.dump())
	}
	slices.SortFunc(d.Routers, func(a, b RouterDump) int { return cmp.Compare(a.ID, b.ID) })
	return d, nil
}

func (r *router) dump() RouterDump {
	d := RouterDump{ID: r.id, Transports: make([]TransportDump, 0, len(r.transports))}
	for _, t := range r.transports {
		d.Transports = append(d.Transports, t.dump())
	}
	slices.SortFunc(d.Transports, func(a, b TransportDump) int { return cmp.Compare(a.ID, b.ID) })
	return d
}

func (t *transport) dump() TransportDump {
	d := TransportDump{
		ID: t.id, IceState: t.ice.state, DtlsState: t.dtls.state,
		DtlsLocalRole: roleName(t.dtls.role), SrtpProfile: t.srtp.profileName(), Tuple: t.tuple(),
	}
	for _, p := range t.producers {
		d.Producers = append(d.Producers, ProducerDump{
			ID: p.id, Kind: p.declared.kind, RtpParameters: p.declared.params,
			ConsumableRtpParameters: p.declared.consumable, Paused: p.paused,
		})
	}
	for _, c := range t.consumers {
		d.Consumers = append(d.Consumers, ConsumerDump{
			ID: c.id, ProducerID: c.producer.id, Kind: c.producer.declared.kind, RtpParameters: c.params,
			Paused: c.paused, ProducerPaused: c.producer.paused,
		})
	}
	return d
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
