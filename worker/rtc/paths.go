package rtc

import (
	"net/netip"
	"time"

	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/netio"
)

// maxTuples bounds the validated paths that a transport remembers.
const maxTuples = ledger.MaxPaths

// tupleKey names a UDP path: the client's address and ours, and the socket. It holds no
// pointer, which keeps its hash cheap.
type tupleKey struct {
	addr  [16]byte
	local netio.Local
	port  uint16
	sock  uint16
}

func (s *source) key() tupleKey {
	return tupleKey{addr: s.addr.Addr().As16(), local: s.local, port: s.addr.Port(), sock: uint16(s.port.index)}
}

// tuple is a path to a client that a valid check came over.
type tuple struct {
	key       tupleKey // zero for TCP
	transport *transport
	port      *udpPort // nil: TCP
	addr      netip.AddrPort
	peer      *tcpPeer // nil: UDP

	// What the choice between paths goes by; see preferredTo. 0: never.
	since     instant // start of the present run of checks
	checked   instant // last valid check
	nominated instant // last one with USE-CANDIDATE
	greeted   instant // last datagram of a handshake
	heard     instant // last packet that shows where the client sends from

	// named is the address that packets are told to leave from, zero where the kernel
	// chooses the same; confirmed is when that was last looked at.
	named     netio.Local
	confirmed instant

	place int // in the ledger's paths, from 1; 0: none
}

// source is where a packet over the path comes from.
func (tu *tuple) source() source {
	return source{port: tu.port, addr: tu.addr, local: tu.key.local, peer: tu.peer}
}

// localAddr is our end of a path.
func (tu *tuple) localAddr() netip.AddrPort {
	if tu.peer != nil {
		return tu.peer.conn.LocalAddr()
	}
	bound := tu.port.sock.LocalAddr()
	if local := tu.key.local.Addr(); local.IsValid() {
		return netip.AddrPortFrom(local, bound.Port())
	}
	return bound
}

// confirmEvery is how long the kernel's choice is believed to stay: addresses of a machine
// come and go.
const confirmEvery = 10 * time.Second

// confirmSource leaves the source of the path's packets to the kernel where it chooses the
// right one: to name it costs some 6 % of sending a packet to one of 200 listeners.
func (l *Loop) confirmSource(tu *tuple) {
	if tu.peer != nil || tu.key.local == (netio.Local{}) || tu.confirmed != 0 && l.now-tu.confirmed < instant(confirmEvery) {
		return
	}
	tu.confirmed, tu.named = l.now, tu.key.local
	if tu.port.sock.LocalAddr().Addr().IsUnspecified() && l.sources.Chooses(tu.addr, tu.key.local) {
		tu.named = netio.Local{}
	}
}

// claim says whose path it is. When a second transport proves that it owns the address
// (a port that a new client reuses, or a check with a forged source), the former owner
// stays beside it, and packets are told apart by what they are: a forged check must not
// silence anyone.
type claim struct {
	owner, former *tuple
}

// claim makes the tuple's transport the owner of its addresses. A former owner stays second.
func (l *Loop) claim(tu *tuple) {
	c := l.table.tuples[tu.key]
	switch {
	case c.owner == tu || c.former == tu:
	case c.owner == nil:
		l.table.tuples[tu.key] = claim{owner: tu}
	default:
		l.table.tuples[tu.key] = claim{owner: tu, former: c.owner}
	}
}

// unclaim takes a tuple out of the ownership of its addresses.
func (l *Loop) unclaim(tu *tuple) {
	c := l.table.tuples[tu.key]
	if c.former == tu {
		c.former = nil
	}
	if c.owner == tu {
		c = claim{owner: c.former}
	}
	if c.owner == nil {
		delete(l.table.tuples, tu.key)
		return
	}
	l.table.tuples[tu.key] = c
}

// learn returns the tuple of a validated source, making it if need be.
func (l *Loop) learn(t *transport, src *source) *tuple {
	if src.peer != nil {
		return l.learnPeer(t, src.peer)
	}
	key := src.key()
	for _, tu := range t.ice.tuples {
		if tu.peer == nil && tu.key == key {
			l.claim(tu)
			return tu
		}
	}
	tu := l.addTuple(t, tuple{key: key, named: key.local, port: src.port, addr: src.addr})
	l.claim(tu)
	return tu
}

// learnPeer gives a TCP connection to the transport whose password its client knows.
func (l *Loop) learnPeer(t *transport, peer *tcpPeer) *tuple {
	if tu := peer.tuple; tu != nil {
		if tu.transport == t {
			return tu
		}
		l.disown(peer)
	} else {
		l.peers.prove(peer)
	}
	tu := l.addTuple(t, tuple{addr: peer.conn.RemoteAddr(), peer: peer})
	peer.tuple = tu
	return tu
}

// addTuple remembers a path; the one that matters least makes room.
func (l *Loop) addTuple(t *transport, v tuple) *tuple {
	ice := &t.ice
	if len(ice.tuples) >= maxTuples {
		least := -1
		for i, other := range ice.tuples {
			if other != ice.selected && (least < 0 || other.mattersLess(ice.tuples[least], l.now)) {
				least = i
			}
		}
		l.dropTuple(t, least)
	}
	tu := ice.room.take()
	*tu = v
	tu.transport = t
	ice.tuples = append(ice.tuples, tu)
	return tu
}

// dropTuple forgets the path with index i.
func (l *Loop) dropTuple(t *transport, i int) {
	tu := t.ice.tuples[i]
	t.ice.forget(i)
	if tu.peer == nil {
		l.unclaim(tu)
		t.recordPaths()
		return
	}
	tu.peer.tuple = nil
	l.peers.doubt(tu.peer, l.now) // nobody's again: it gets the time of a new connection
}

// disown takes a TCP connection that ends or changes hands from its transport.
func (l *Loop) disown(peer *tcpPeer) {
	tu := peer.tuple
	peer.tuple = nil
	ice := &tu.transport.ice
	for i, other := range ice.tuples {
		if other == tu {
			ice.forget(i)
			break
		}
	}
	l.checkSelected(tu.transport)
}

// forget removes the path with index i.
func (ice *iceState) forget(i int) {
	if ice.selected == ice.tuples[i] {
		ice.selected = nil
	}
	ice.tuples = append(ice.tuples[:i], ice.tuples[i+1:]...)
}

// forgetPaths gives the validated addresses free and closes the TCP connections.
func (l *Loop) forgetPaths(t *transport) {
	for len(t.ice.tuples) > 0 {
		tu := t.ice.tuples[len(t.ice.tuples)-1]
		if tu.peer != nil {
			l.closePeer(tu.peer)
			continue
		}
		l.dropTuple(t, len(t.ice.tuples)-1)
	}
	t.ice.selected = nil
}

// recordPaths brings the ledger up to date with the validated UDP paths. Only what
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
			p.Since, p.Checked = int64(tu.since), int64(tu.checked)
			p.Nominated, p.Heard = int64(tu.nominated), int64(tu.heard)
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
		p.Local, p.Scope = tu.key.local.Parts()
		tu.place, used[i] = i+1, true
		return
	}
}
