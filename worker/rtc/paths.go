package rtc

import "github.com/dspeak/sfu/worker/ledger"

// recordPaths brings the ledger up to date with the validated UDP addresses. Only what
// changed is stored, the new before the old goes: a successor always finds the
// selected path.
func (t *transport) recordPaths() {
	var used [ledger.MaxPaths]bool
	for _, tu := range t.ice.tuples {
		if tu.place != 0 {
			used[tu.place-1] = true
		}
	}
	for _, tu := range t.ice.tuples {
		if tu.peer == nil && tu.place == 0 {
			t.recordPath(tu, &used)
		}
	}
	for _, selected := range []bool{true, false} {
		for _, tu := range t.ice.tuples {
			if tu.place == 0 || selected != (tu == t.ice.selected) {
				continue
			}
			p := &t.rec.Paths[tu.place-1]
			p.Nominated = tu.nominated
			state := uint32(ledger.PathValid)
			if selected {
				state = ledger.PathSelected
			}
			if p.State.Load() != state {
				p.State.Store(state)
			}
		}
	}
	for i := range t.rec.Paths {
		if p := &t.rec.Paths[i]; !used[i] && p.State.Load() != ledger.PathFree {
			p.State.Store(ledger.PathFree)
		}
	}
}

// recordPath gives a new path a place. There are as many as a transport remembers.
func (t *transport) recordPath(tu *tuple, used *[ledger.MaxPaths]bool) {
	for i := range used {
		if used[i] {
			continue
		}
		p := &t.rec.Paths[i]
		p.State.Store(ledger.PathFree)
		p.V4 = tu.port.sock.LocalAddr().Addr().Unmap().Is4()
		p.Addr, p.Port = tu.addr.Addr().As16(), tu.addr.Port()
		tu.place, used[i] = i+1, true
		return
	}
}
