package rtc

import (
	"testing"
	"time"

	pionstun "github.com/pion/stun/v3"
)

// request is a client's valid check.
func (c *client) request() []byte {
	c.t.Helper()
	m, err := pionstun.Build(
		pionstun.TransactionID, pionstun.BindingRequest,
		pionstun.NewUsername(c.info.IceParameters.UsernameFragment+":"+c.ufrag), controlling, useCandidate,
		pionstun.NewShortTermIntegrity(c.info.IceParameters.Password), pionstun.Fingerprint,
	)
	if err != nil {
		c.t.Fatal(err)
	}
	return m.Raw
}

func (r *rig) tcpConnections() int {
	r.t.Helper()
	u, err := r.Usage(r.ctx)
	mustNil(r.t, err)
	return u.TCPConnections
}

// TestManyClientsBehindOneAddress: whoever has shown a valid check stays, however many
// share an address, and though all checks are read late.
func TestManyClientsBehindOneAddress(t *testing.T) {
	const many = maxUnprovenPerSource + 50
	r := newRig(t, nil)
	router := r.router()
	clients := make([]*client, many)
	for i := range clients {
		clients[i] = r.newClient(router)
	}
	resume := r.stall()
	for _, c := range clients {
		c.addLink(dialTCP(t, c.addr("tcp", true))).send(c.request())
	}
	resume()
	for _, c := range clients {
		select {
		case m := <-c.stun:
			if m.Type != pionstun.BindingSuccess {
				t.Fatalf("answered %s", m)
			}
		case <-time.After(patience):
			t.Fatal("no answer to a check")
		}
	}
	if n := r.tcpConnections(); n != many {
		t.Errorf("%d connections, want %d", n, many)
	}
}

// TestFloodOfConnections: connections without a check keep no client out, neither by
// their number from one address nor in all, and are bounded.
func TestFloodOfConnections(t *testing.T) {
	r := newRig(t, nil)
	router := r.router()
	var idle []link
	defer func() {
		for _, l := range idle {
			l.close()
		}
	}()
	var clients []*client
	for i := range 3 * maxUnprovenPerSource {
		probe := r.newClient(router)
		idle = append(idle, dialTCP(t, probe.addr("tcp", true)))
		if i%50 == 0 {
			probe.connect(dialTCP(t, probe.addr("tcp", true)), "client")
			clients = append(clients, probe)
			r.onLoop(func() { // none ends for its age, however slow the machine is
				for _, peer := range r.peers.all {
					peer.since = r.now
				}
			})
		}
	}
	for i, c := range clients {
		id := r.produce(c, uint32(i+1), "0")
		c.speak(uint32(i+1), 1)
		r.eventually("a client is served", func() bool { return r.producerPackets(id) == 1 })
	}
	r.eventually("the flood is bounded", func() bool { return r.tcpConnections() == maxUnprovenPerSource+len(clients) })
	if u, err := r.Usage(r.ctx); err != nil || u.Sockets.TCPRefused != uint64(2*maxUnprovenPerSource) {
		t.Errorf("%d counted as refused, %v", u.Sockets.TCPRefused, err)
	}
	if n, err := idle[0].recv(make([]byte, 10)); err == nil {
		t.Errorf("the oldest is open: %d bytes", n)
	}
}

// TestConnectionsInAll: with as many connections as there may be, one without a check
// makes room; when all have shown theirs the next is refused.
func TestConnectionsInAll(t *testing.T) {
	const limit = 3
	r := newRig(t, func(c *Config) { c.Limits.TCPConnections = limit })
	router := r.router()
	idle := make([]link, limit)
	for i := range idle {
		idle[i] = dialTCP(t, r.newClient(router).addr("tcp", true))
		defer idle[i].close()
	}
	clients := make([]*client, limit)
	for i := range clients {
		clients[i] = r.newClient(router)
		l := clients[i].addLink(dialTCP(t, clients[i].addr("tcp", true)))
		clients[i].check(l, useCandidate)
	}
	late := dialTCP(t, clients[0].addr("tcp", true))
	defer late.close()
	if n, err := late.recv(make([]byte, 10)); err == nil {
		t.Errorf("the limit holds for nobody: %d bytes", n)
	}
	for _, c := range clients {
		c.check(c.active)
	}
	if n := r.tcpConnections(); n != limit {
		t.Errorf("%d connections", n)
	}
}

// TestConnectionsOfOneTransport: many connections of one transport are bounded by its
// paths, and what is pushed out counts as unproven again.
func TestConnectionsOfOneTransport(t *testing.T) {
	r := newRig(t, nil)
	c := r.newClient(r.router())
	for range 3 * maxTuples {
		c.check(c.addLink(dialTCP(t, c.addr("tcp", true))), useCandidate)
	}
	r.onLoop(func() {
		if p := &r.peers; p.unproven != 2*maxTuples || len(p.all) != 3*maxTuples || p.perSource[p.oldest.source] != p.unproven {
			t.Errorf("%d of %d unproven", p.unproven, len(p.all))
		}
	})
	r.clock.advance(unprovenFor + time.Second)
	r.eventually("they are closed", func() bool { return r.tcpConnections() == maxTuples })
	mustNil(t, r.CloseTransport(r.ctx, c.transport))
	r.onLoop(func() {
		if p := &r.peers; p.unproven != 0 || len(p.all) != 0 || len(p.perSource) != 0 || p.oldest != nil || p.newest != nil {
			t.Errorf("left %+v", p)
		}
	})
}

// TestRestingListenerServesAgain: what accept leaves alone after an error is tried again.
func TestRestingListenerServesAgain(t *testing.T) {
	r := newRig(t, nil)
	c := r.newClient(r.router())
	r.onLoop(func() { mustNil(t, r.poller.WatchListener(r.listeners[0], false)) })
	c.addLink(dialTCP(t, c.addr("tcp", true))).send(c.request())
	select {
	case <-c.stun:
	case <-time.After(patience):
		t.Fatal("the listener rests for good")
	}
}

// TestConnectionChangesHands: one TCP connection may carry checks of several transports,
// one after another; it is never counted twice.
func TestConnectionChangesHands(t *testing.T) {
	r := newRig(t, nil)
	router := r.router()
	first, second := r.newClient(router), r.newClient(router)
	idle := dialTCP(t, first.addr("tcp", true))
	defer idle.close()
	l := first.addLink(dialTCP(t, first.addr("tcp", true)))
	for range 3 {
		for _, c := range []*client{first, second} {
			l.send(c.request())
			if m := <-first.stun; m.Type != pionstun.BindingSuccess {
				t.Fatalf("answered %s", m)
			}
		}
	}
	r.eventually("both are there", func() bool { return r.tcpConnections() == 2 })
	r.onLoop(func() {
		p := &r.peers
		if p.unproven != 1 || p.oldest == nil || p.oldest != p.newest || p.perSource[p.oldest.source] != 1 {
			t.Errorf("%d unproven, %v", p.unproven, p.perSource)
		}
	})
}
