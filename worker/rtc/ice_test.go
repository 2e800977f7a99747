package rtc

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/rtcp"
	pionstun "github.com/pion/stun/v3"

	"github.com/dspeak/sfu/internal/ident"
)

// localAddr is a link's own address.
func localAddr(l link) netip.AddrPort {
	if u, ok := l.(udpLink); ok {
		return netip.MustParseAddrPort(u.conn.LocalAddr().String())
	}
	return netip.AddrPort{}
}

// selectedPort is the remote port that the client's transport sends to, 0: none.
func (c *client) selectedPort() uint16 {
	if tu := c.dump().Tuple; tu != nil {
		return tu.RemotePort
	}
	return 0
}

func TestCheckIsAnsweredAfterRFC8445(t *testing.T) {
	r := newRig(t, nil)
	c := r.newClient(r.router())
	l := c.addLink(dialUDP(t, c.addr("udp", true)))
	password := c.info.IceParameters.Password
	for _, tc := range []struct {
		name     string
		password string
		attrs    []pionstun.Setter
		code     pionstun.ErrorCode // 0: success
	}{
		{"wrong password", "not the password at all, sorry", []pionstun.Setter{controlling}, 401},
		{"client claims to be controlled", password, []pionstun.Setter{controlled}, 487},
		{
			"unknown attribute that must be understood", password,
			[]pionstun.Setter{controlling, pionstun.RawAttribute{Type: 0x7777, Value: []byte{1, 2, 3, 4}}},
			420,
		},
		{"valid", password, []pionstun.Setter{controlling}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			answer := c.checkWith(l, tc.password, tc.attrs...)
			if tc.code == 0 {
				var mapped pionstun.XORMappedAddress
				if answer.Type != pionstun.BindingSuccess || mapped.GetFrom(answer) != nil ||
					mapped.Port != int(localAddr(l).Port()) {
					t.Fatalf("answer %s", answer)
				}
				if err := pionstun.NewShortTermIntegrity(password).Check(answer); err != nil {
					t.Fatal(err)
				}
				if c.selectedPort() != localAddr(l).Port() {
					t.Fatal("the first valid check set no address")
				}
				return
			}
			var code pionstun.ErrorCodeAttribute
			if answer.Type != pionstun.BindingError || code.GetFrom(answer) != nil || code.Code != tc.code {
				t.Fatalf("answer %s, want error %d", answer, tc.code)
			}
			if c.selectedPort() != 0 || c.dump().IceState != IceNew {
				t.Fatal("an invalid check changed the state")
			}
		})
	}
}

func TestUnknownUserFragmentIsNotAnswered(t *testing.T) {
	r := newRig(t, nil)
	c := r.newClient(r.router())
	l := c.addLink(dialUDP(t, c.addr("udp", true)))
	for _, name := range []string{"nobody:x", ":", "x"} {
		m := pionstun.MustBuild(pionstun.TransactionID, pionstun.BindingRequest, pionstun.NewUsername(name),
			controlling, pionstun.NewShortTermIntegrity("x"), pionstun.Fingerprint)
		l.send(m.Raw)
	}
	c.check(l) // comes after them, and its answer first
	select {
	case m := <-c.stun:
		t.Fatalf("answered: %s", m)
	default:
	}
}

// TestClientsPacketsMoveTheAddress: neither strangers nor nominations alone draw packets
// away from the path that the client's own packets come over.
func TestClientsPacketsMoveTheAddress(t *testing.T) {
	r := newRig(t, nil)
	a, b := pair(r)
	r.consume(b, r.produce(a, 5, "0"))
	home := b.active
	homePort := localAddr(home).Port()
	stranger := b.addLink(dialUDP(t, b.addr("udp", true)))
	speak := uint16(0)
	hearAt := func(want link) {
		t.Helper()
		speak++
		a.speak(5, speak)
		b.hear()
		if got, port := b.selectedPort(), localAddr(want).Port(); got != port {
			t.Fatalf("packets go to port %d, want %d", got, port)
		}
	}
	hearAt(home)
	for range 5 { // whoever does not know the password moves nothing
		b.checkWith(stranger, "wrong password wrong password", useCandidate, controlling)
	}
	stranger.send([]byte{0x80, 111, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 1, 2, 3})
	stranger.send(bytes.Repeat([]byte{22, 254, 253, 0}, 10))
	hearAt(home)
	b.check(stranger) // valid, but not nominated
	if b.selectedPort() != homePort {
		t.Fatal("a check without USE-CANDIDATE moved the address")
	}
	hearAt(home)
	b.check(stranger, useCandidate) // it may be a check of the client's that was recorded
	hearAt(home)
	report := func(from link) {
		b.mu.Lock()
		b.active = from
		b.mu.Unlock()
		b.sendRTCP(&rtcp.ReceiverReport{SSRC: 1})
	}
	for _, l := range []link{home, stranger, home} {
		report(l)
		r.eventually("packets follow the client's reports", func() bool { return b.selectedPort() == localAddr(l).Port() })
		hearAt(l)
		r.clock.advance(settleFor)
	}
}

func TestMediaOnlyFromAValidatedAddress(t *testing.T) {
	r := newRig(t, nil)
	a, b := pair(r)
	producer := r.produce(a, 5, "0")
	r.consume(b, producer)
	a.speak(5, 1)
	b.hear()
	home := a.active
	a.addLink(dialUDP(t, a.addr("udp", true)))
	a.speak(5, 2) // authentic, but from an address that no check validated
	a.mu.Lock()
	a.active = home
	a.mu.Unlock()
	a.speak(5, 3)
	if p := b.hear(); !bytes.Equal(p.Payload, voice(5, 3).Payload) {
		t.Fatalf("heard %v", p)
	}
	if n := r.producerPackets(producer); n != 2 {
		t.Fatalf("%d packets counted, want 2", n)
	}
}

// TestReusedPort: a new client on the address of an old one reaches its own
// transport at once, and a forged check does not silence the old one.
func TestReusedPort(t *testing.T) {
	r := newRig(t, nil)
	a, b := pair(r)
	producer := r.produce(a, 5, "0")
	r.consume(b, producer)
	a.speak(5, 1)
	b.hear()

	// The new client shares the old one's socket: same address, other credentials.
	fresh := r.newClient(r.router())
	fresh.active = a.active
	fresh.stun, fresh.dtls, fresh.rtp = a.stun, a.dtls, a.rtp
	fresh.check(a.active, useCandidate)
	a.speak(5, 2) // the old one still gets through
	b.hear()
	fresh.handshake("client")
	other := r.newClient(r.router())
	_ = other
	id := r.produce(fresh, 99, "0")
	fresh.speak(99, 1)
	r.eventually("the new client's packet arrives", func() bool { return r.producerPackets(id) == 1 })
	a.speak(5, 3)
	b.hear()
}

func TestConsentExpires(t *testing.T) {
	r := newRig(t, nil)
	a, b := pair(r)
	r.consume(b, r.produce(a, 5, "0"))
	r.clock.advance(16 * time.Second)
	r.waitEvent("disconnected", func(e Event) bool {
		return e.Kind == EventTransportState && e.Transport == a.transport && e.IceState == IceDisconnected
	})
	a.check(a.active)
	r.waitEvent("connected again", func(e Event) bool {
		return e.Kind == EventTransportState && e.Transport == a.transport && e.IceState == IceConnected
	})
	r.clock.advance(15 * time.Second)
	e := r.waitEvent("b's consent expires", func(e Event) bool { return e.Kind == EventTransportClosed })
	if e.Transport != b.transport || e.Reason != ReasonConsentExpired || e.IceState != IceClosed {
		t.Fatalf("event %+v", e)
	}
	if a.dump().ID == "" {
		t.Fatal("a's transport is gone, too")
	}
}

func TestNeverConnected(t *testing.T) {
	r := newRig(t, nil)
	id, _ := r.transport(r.router())
	r.clock.advance(48 * time.Hour)
	if d, err := r.Dump(r.ctx, ""); err != nil || len(d.Routers[0].Transports) != 1 {
		t.Fatalf("somebody waited alone: dump %+v, %v", d, err)
	}
	params := DtlsParameters{Role: "client"}
	for _, f := range clientPrints(t) {
		params.Fingerprints = append(params.Fingerprints, DtlsFingerprint{Algorithm: f.Algorithm, Value: f.Value})
	}
	if _, err := r.ConnectTransport(r.ctx, id, params); err != nil {
		t.Fatal(err)
	}
	r.clock.advance(59 * time.Second)
	if d, err := r.Dump(r.ctx, ""); err != nil || len(d.Routers[0].Transports) != 1 {
		t.Fatalf("dump %+v, %v", d, err)
	}
	r.clock.advance(2 * time.Second)
	e := r.waitEvent("never connected", func(e Event) bool { return e.Kind == EventTransportClosed })
	if e.Transport != id || e.Reason != ReasonNeverConnected {
		t.Fatalf("event %+v", e)
	}
}

func TestRememberedPathsAreBounded(t *testing.T) {
	r := newRig(t, nil)
	c := r.newClient(r.router())
	first := c.addLink(dialUDP(t, c.addr("udp", true)))
	c.check(first, useCandidate)
	for range 3 * maxTuples {
		c.check(c.addLink(dialUDP(t, c.addr("udp", true))))
	}
	if c.selectedPort() != localAddr(first).Port() {
		t.Fatal("the selected path was pushed out")
	}
	r.onLoop(func() {
		tr := r.table.transports[c.transport]
		if len(tr.ice.tuples) != maxTuples || len(r.table.tuples) != maxTuples {
			t.Errorf("%d paths, %d table entries, want %d", len(tr.ice.tuples), len(r.table.tuples), maxTuples)
		}
	})
}

// onLoop runs fn on the loop.
func (r *rig) onLoop(fn func()) {
	r.t.Helper()
	if err := r.mail.do(r.ctx, fn); err != nil {
		r.t.Fatal(err)
	}
}

func TestTCPConnections(t *testing.T) {
	t.Run("one without a valid check is closed", func(t *testing.T) {
		r := newRig(t, nil)
		c := r.newClient(r.router())
		l := dialTCP(t, c.addr("tcp", true))
		defer l.close()
		r.eventually("accepted", func() bool { u, _ := r.Usage(r.ctx); return u.TCPConnections == 1 })
		r.clock.advance(11 * time.Second)
		if n, err := l.recv(make([]byte, 10)); err == nil {
			t.Fatalf("read %d bytes", n)
		}
	})
	t.Run("nonsense is closed or ignored, others live on", func(t *testing.T) {
		r := newRig(t, nil)
		c := r.newClient(r.router())
		bad := dialTCP(t, c.addr("tcp", true))
		defer bad.close()
		bad.send(bytes.Repeat([]byte{0xff}, 65535))
		good := c.addLink(dialTCP(t, c.addr("tcp", true)))
		c.check(good, useCandidate)
		if c.dump().Tuple.Protocol != "tcp" {
			t.Fatal("not over tcp")
		}
	})
	t.Run("its end disconnects, a new one connects again", func(t *testing.T) {
		r := newRig(t, nil)
		c := r.newClient(r.router())
		c.connect(dialTCP(t, c.addr("tcp", true)), "client")
		c.active.close()
		r.waitEvent("disconnected", func(e Event) bool { return e.IceState == IceDisconnected })
		again := c.addLink(dialTCP(t, c.addr("tcp", true)))
		c.check(again, useCandidate)
		r.waitEvent("connected", func(e Event) bool { return e.IceState == IceConnected })
		id := r.produce(c, 5, "0")
		c.speak(5, 1)
		r.eventually("media flows", func() bool { return r.producerPackets(id) == 1 })
	})
	t.Run("it ends with its transport", func(t *testing.T) {
		r := newRig(t, nil)
		c := r.newClient(r.router())
		c.connect(dialTCP(t, c.addr("tcp", true)), "client")
		mustNil(t, r.CloseTransport(r.ctx, c.transport))
		c.readers.Wait() // the reader sees the end
	})
	t.Run("udp goes before tcp when both are nominated", func(t *testing.T) {
		r := newRig(t, nil)
		c := r.newClient(r.router())
		tcp := c.addLink(dialTCP(t, c.addr("tcp", true)))
		udp := c.addLink(dialUDP(t, c.addr("udp", true)))
		c.check(tcp, useCandidate)
		c.check(udp, useCandidate)
		c.check(tcp, useCandidate)
		if c.dump().Tuple.Protocol != "udp" {
			t.Fatal("tcp took over from a live udp path")
		}
		r.clock.advance(longSilence + time.Second)
		c.check(tcp, useCandidate)
		if c.dump().Tuple.Protocol != "tcp" {
			t.Fatal("tcp did not take over from a silent udp path")
		}
	})
}

// TestGarbageIsHarmless throws noise of all kinds at the sockets.
func TestGarbageIsHarmless(t *testing.T) {
	r := newRig(t, nil)
	a, b := pair(r)
	r.consume(b, r.produce(a, 5, "0"))
	noise := []byte{}
	for first := range 256 {
		noise = append(noise[:0], byte(first))
		for i := range 60 {
			noise = append(noise, byte(i*first), 0xff, byte(i))
		}
		for _, n := range []int{0, 1, 2, 3, 7, 8, 12, 13, 20, 60, len(noise)} {
			a.send(noise[:n])
			b.send(noise[:n])
		}
		binary.BigEndian.PutUint32(noise[4:], 0x2112A442)
		a.send(noise)
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(a.addr("udp", true)))
		mustNil(t, err)
		_, _ = conn.Write(noise)
		_ = conn.Close()
	}
	a.check(a.active)
	b.check(b.active)
	a.speak(5, 1)
	b.hear()
}

func TestCandidates(t *testing.T) {
	r := newRig(t, nil)
	router := r.router()
	v4, v6 := netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("[2001:db8::1]:2000")
	for _, tc := range []struct {
		name      string
		family    Family
		announced []netip.AddrPort
		want      []string // protocol and address
	}{
		{"both families", FamilyAny, []netip.AddrPort{v4, v6}, []string{"udp192.0.2.1", "tcp192.0.2.1", "udp2001:db8::1", "tcp2001:db8::1"}},
		{"v4 only", FamilyIPv4, []netip.AddrPort{v6, v4}, []string{"udp192.0.2.1", "tcp192.0.2.1"}},
		{"v6 only", FamilyIPv6, []netip.AddrPort{v6, v4}, []string{"udp2001:db8::1", "tcp2001:db8::1"}},
		{"mapped address is v4", FamilyIPv4, []netip.AddrPort{netip.MustParseAddrPort("[::ffff:192.0.2.1]:1000")}, []string{"udp192.0.2.1", "tcp192.0.2.1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			info, err := r.CreateTransport(r.ctx, CreateTransportParams{
				Router: router, ID: ident.TransportID(ident.New()), Family: tc.family, Announced: tc.announced,
			})
			mustNil(t, err)
			priority := map[string]uint32{}
			foundations := map[string]bool{}
			var got []string
			for _, c := range info.IceCandidates {
				got = append(got, c.Protocol+c.Address)
				priority[c.Protocol] = max(priority[c.Protocol], c.Priority)
				foundations[c.Foundation] = true
				if c.IP != c.Address || c.Type != "host" || (c.Protocol == "tcp") != (c.TCPType == "passive") {
					t.Fatalf("candidate %+v", c)
				}
			}
			if len(got) != len(tc.want) || len(foundations) != len(got) {
				t.Fatalf("candidates %v, want %v", got, tc.want)
			}
			for i := range got {
				if got[i] != tc.want[i] {
					t.Fatalf("candidates %v, want %v", got, tc.want)
				}
			}
			if priority["tcp"] >= priority["udp"] {
				t.Fatalf("priorities %v", priority)
			}
			if p := info.IceParameters; !p.IceLite || len(p.UsernameFragment) < 8 || len(p.Password) < 24 {
				t.Fatalf("ice parameters %+v", p)
			}
		})
	}
}
