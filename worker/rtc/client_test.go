package rtc

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtcp"
	pionrtp "github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	pionstun "github.com/pion/stun/v3"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/worker/handshake"
)

// link carries a client's datagrams: a UDP socket or a framed TCP connection.
type link interface {
	send(b []byte)
	recv(b []byte) (int, error)
	close()
}

type udpLink struct{ conn *net.UDPConn }

func (u udpLink) send(b []byte)              { _, _ = u.conn.Write(b) }
func (u udpLink) recv(b []byte) (int, error) { return u.conn.Read(b) }
func (u udpLink) close()                     { _ = u.conn.Close() }

// tcpLink frames by RFC 4571.
type tcpLink struct{ conn net.Conn }

func (c tcpLink) send(b []byte) {
	_, _ = c.conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
}

func (c tcpLink) recv(b []byte) (int, error) {
	var size [2]byte
	if _, err := io.ReadFull(c.conn, size[:]); err != nil {
		return 0, err
	}
	return io.ReadFull(c.conn, b[:binary.BigEndian.Uint16(size[:])])
}

func (c tcpLink) close() { _ = c.conn.Close() }

// client is a small WebRTC endpoint over pion's STUN, DTLS and SRTP. A test may
// give it several links.
type client struct {
	t         *testing.T
	rig       *rig
	transport ident.TransportID
	info      TransportInfo
	ufrag     string
	readers   sync.WaitGroup
	stun      chan *pionstun.Message
	dtls      chan []byte
	rtp       chan []byte // protected, as received
	rtcp      chan []byte

	mu      sync.Mutex
	links   []link
	active  link
	in, out *srtp.Context
	conn    *dtls.Conn
}

func dialUDP(t *testing.T, to netip.AddrPort) link {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	return udpLink{conn}
}

func dialTCP(t *testing.T, to netip.AddrPort) link {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	return tcpLink{conn}
}

// newClient makes a transport and a client for it, not yet connected.
func (r *rig) newClient(router ident.RouterID) *client {
	r.t.Helper()
	id, info := r.transport(router)
	c := &client{
		t: r.t, rig: r, transport: id, info: info, ufrag: ident.New()[:8],
		stun: make(chan *pionstun.Message, 64), dtls: make(chan []byte, 256),
		rtp: make(chan []byte, 4096), rtcp: make(chan []byte, 1024),
	}
	r.t.Cleanup(c.close)
	return c
}

// addr is the announced address of the protocol, "udp" or "tcp", and family.
func (c *client) addr(protocol string, v4 bool) netip.AddrPort {
	for _, cand := range c.info.IceCandidates {
		addr := netip.MustParseAddr(cand.Address)
		if cand.Protocol != protocol || addr.Is4() != v4 {
			continue
		}
		if protocol == "udp" {
			return netip.AddrPortFrom(addr, cand.Port)
		}
		// The test announces the UDP port only; TCP sits on a port of its own.
		for _, l := range c.rig.listeners {
			if l.LocalAddr().Addr().Is4() == v4 {
				return l.LocalAddr()
			}
		}
	}
	c.t.Fatalf("no %s candidate", protocol)
	return netip.AddrPort{}
}

// addLink starts to read a link and makes it the one that the client sends with.
func (c *client) addLink(l link) link {
	c.mu.Lock()
	c.links = append(c.links, l)
	c.active = l
	c.mu.Unlock()
	c.readers.Go(func() { c.read(l) })
	return l
}

func (c *client) read(l link) {
	buf := make([]byte, 2048)
	for {
		n, err := l.recv(buf)
		if err != nil {
			return
		}
		b := bytes.Clone(buf[:n])
		switch {
		case n == 0:
		case b[0] < 4:
			m := &pionstun.Message{Raw: b}
			if m.Decode() == nil {
				push(c.stun, m)
			}
		case b[0] >= 20 && b[0] < 64:
			push(c.dtls, b)
		case b[1] >= 192 && b[1] < 224:
			push(c.rtcp, b)
		default:
			push(c.rtp, b)
		}
	}
}

func push[T any](ch chan T, v T) {
	select {
	case ch <- v:
	default:
	}
}

func (c *client) send(b []byte) {
	c.mu.Lock()
	l := c.active
	c.mu.Unlock()
	l.send(b)
}

// checkWith sends one binding request over a link and returns the answer.
func (c *client) checkWith(l link, password string, attrs ...pionstun.Setter) *pionstun.Message {
	c.t.Helper()
	setters := append([]pionstun.Setter{
		pionstun.TransactionID, pionstun.BindingRequest,
		pionstun.NewUsername(c.info.IceParameters.UsernameFragment + ":" + c.ufrag),
		pionstun.RawAttribute{Type: pionstun.AttrPriority, Value: []byte{1, 2, 3, 4}},
	}, attrs...)
	setters = append(setters, pionstun.NewShortTermIntegrity(password), pionstun.Fingerprint)
	m, err := pionstun.Build(setters...)
	if err != nil {
		c.t.Fatal(err)
	}
	retry := time.NewTicker(200 * time.Millisecond)
	defer retry.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	l.send(m.Raw)
	for {
		select {
		case answer := <-c.stun:
			if answer.TransactionID == m.TransactionID {
				return answer
			}
		case <-retry.C:
			l.send(m.Raw)
		case <-deadline.C:
			c.t.Fatal("no answer to a check")
		}
	}
}

var (
	controlling  = pionstun.RawAttribute{Type: pionstun.AttrICEControlling, Value: []byte{1, 2, 3, 4, 5, 6, 7, 8}}
	controlled   = pionstun.RawAttribute{Type: pionstun.AttrICEControlled, Value: []byte{1, 2, 3, 4, 5, 6, 7, 8}}
	useCandidate = pionstun.RawAttribute{Type: pionstun.AttrUseCandidate}
)

// check sends a valid check over a link and wants success.
func (c *client) check(l link, attrs ...pionstun.Setter) {
	c.t.Helper()
	answer := c.checkWith(l, c.info.IceParameters.Password, append(attrs, controlling)...)
	if answer.Type != pionstun.BindingSuccess {
		c.t.Fatalf("check answered with %s", answer)
	}
}

// connect runs ICE and DTLS over one link. role is the client's DTLS role.
func (c *client) connect(l link, role string, profiles ...dtls.SRTPProtectionProfile) {
	c.t.Helper()
	c.addLink(l)
	c.check(l, useCandidate)
	c.handshake(role, profiles...)
}

// handshake runs DTLS in the given role and opens SRTP.
func (c *client) handshake(role string, profiles ...dtls.SRTPProtectionProfile) {
	c.t.Helper()
	params := DtlsParameters{Role: role}
	for _, f := range clientPrints(c.t) {
		params.Fingerprints = append(params.Fingerprints, DtlsFingerprint{Algorithm: f.Algorithm, Value: f.Value})
	}
	if _, err := c.rig.ConnectTransport(c.rig.ctx, c.transport, params); err != nil {
		c.t.Fatal(err)
	}
	if err := c.dial(role, profiles...); err != nil {
		c.t.Fatalf("client handshake: %v", err)
	}
	c.openSRTP(c.conn, role == "server")
	c.rig.eventually("transport is connected", func() bool { return c.dump().DtlsState == DtlsConnected })
}

// clientPrints are the fingerprints of the clients' certificate, which is the worker's:
// one key is enough for tests.
func clientPrints(t *testing.T) []handshake.Fingerprint {
	t.Helper()
	prints, err := handshake.FingerprintsOf(testCertificate())
	if err != nil {
		t.Fatal(err)
	}
	return prints
}

// dial runs the DTLS handshake in the given role.
func (c *client) dial(role string, profiles ...dtls.SRTPProtectionProfile) error {
	if len(profiles) == 0 {
		profiles = []dtls.SRTPProtectionProfile{dtls.SRTP_AES128_CM_HMAC_SHA1_80, dtls.SRTP_AEAD_AES_128_GCM}
	}
	cfg := &dtls.Config{ //nolint:staticcheck // the plain form is enough for a test
		InsecureSkipVerify: true, SRTPProtectionProfiles: profiles, ExtendedMasterSecret: dtls.RequireExtendedMasterSecret,
		ClientAuth: dtls.RequireAnyClientCert,
	}
	cfg.Certificates = append(cfg.Certificates, testCertificate())
	pc := &dtlsPipe{c: c, closed: make(chan struct{})}
	var (
		conn *dtls.Conn
		err  error
	)
	if role == "server" {
		conn, err = dtls.Server(pc, pipeAddr{}, cfg) //nolint:staticcheck // as above
	} else {
		conn, err = dtls.Client(pc, pipeAddr{}, cfg) //nolint:staticcheck // as above
	}
	if err != nil {
		return err
	}
	c.conn = conn
	ctx, cancel := context.WithTimeout(c.rig.ctx, patience)
	defer cancel()
	return conn.HandshakeContext(ctx)
}

func (c *client) openSRTP(conn *dtls.Conn, server bool) {
	c.t.Helper()
	state, ok := conn.ConnectionState()
	if !ok {
		c.t.Fatal("no dtls state")
	}
	selected, _ := conn.SelectedSRTPProtectionProfile()
	keys := &srtp.Config{}
	switch selected {
	case dtls.SRTP_AEAD_AES_128_GCM:
		keys.Profile = srtp.ProtectionProfileAeadAes128Gcm
	case dtls.SRTP_AES128_CM_HMAC_SHA1_80:
		keys.Profile = srtp.ProtectionProfileAes128CmHmacSha1_80
	default:
		c.t.Fatalf("srtp profile %d", selected)
	}
	if err := keys.ExtractSessionKeysFromDTLS(&state, !server); err != nil {
		c.t.Fatal(err)
	}
	in, err := srtp.CreateContext(keys.Keys.RemoteMasterKey, keys.Keys.RemoteMasterSalt, keys.Profile)
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := srtp.CreateContext(keys.Keys.LocalMasterKey, keys.Keys.LocalMasterSalt, keys.Profile)
	if err != nil {
		c.t.Fatal(err)
	}
	c.in, c.out = in, out
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close()
	}
	c.mu.Lock()
	for _, l := range c.links {
		l.close()
	}
	c.mu.Unlock()
	c.readers.Wait()
}

// dump is the state of the client's transport, zero when it is gone.
func (c *client) dump() TransportDump {
	c.t.Helper()
	d, err := c.rig.Dump(c.rig.ctx, "")
	if err != nil {
		c.t.Fatal(err)
	}
	for _, r := range d.Routers {
		for _, t := range r.Transports {
			if t.ID == c.transport {
				return t
			}
		}
	}
	return TransportDump{}
}

// sendRTP protects and sends one packet.
func (c *client) sendRTP(p *pionrtp.Packet) []byte {
	c.t.Helper()
	raw, err := p.Marshal()
	if err != nil {
		c.t.Fatal(err)
	}
	protected, err := c.out.EncryptRTP(nil, raw, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	c.send(protected)
	return protected
}

// speak sends one frame with the given number, its payload telling the number.
func (c *client) speak(ssrc uint32, seq uint16) {
	c.t.Helper()
	c.sendRTP(voice(ssrc, seq))
}

func voice(ssrc uint32, seq uint16) *pionrtp.Packet {
	p := &pionrtp.Packet{
		Header: pionrtp.Header{
			Version: 2, PayloadType: 111, SequenceNumber: seq, Timestamp: uint32(seq) * 960, SSRC: ssrc,
		},
		Payload: append([]byte("opus"), byte(seq>>8), byte(seq)),
	}
	_ = p.SetExtension(extLevel, []byte{0x80 | 30})
	return p
}

// hear waits for the next packet and returns it plain.
func (c *client) hear() *pionrtp.Packet {
	c.t.Helper()
	return c.open(c.hearRaw())
}

// hearRaw waits for the next packet and returns it protected.
func (c *client) hearRaw() []byte {
	c.t.Helper()
	select {
	case b := <-c.rtp:
		return b
	case <-time.After(patience):
		c.t.Fatal("heard nothing")
	}
	return nil
}

func (c *client) open(b []byte) *pionrtp.Packet {
	c.t.Helper()
	plain, err := c.in.DecryptRTP(nil, b, nil)
	if err != nil {
		c.t.Fatalf("unprotect: %v", err)
	}
	p := &pionrtp.Packet{}
	if err := p.Unmarshal(plain); err != nil {
		c.t.Fatal(err)
	}
	return p
}

// sendRTCP protects and sends a compound packet.
func (c *client) sendRTCP(packets ...rtcp.Packet) {
	c.t.Helper()
	raw, err := rtcp.Marshal(packets)
	if err != nil {
		c.t.Fatal(err)
	}
	protected, err := c.out.EncryptRTCP(nil, raw, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	c.send(protected)
}

// waitRTCP returns the next RTCP packet for which match holds.
func (c *client) waitRTCP(what string, match func(rtcp.Packet) bool) rtcp.Packet {
	c.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		select {
		case b := <-c.rtcp:
			plain, err := c.in.DecryptRTCP(nil, b, nil)
			if err != nil {
				c.t.Fatalf("unprotect rtcp: %v", err)
			}
			packets, err := rtcp.Unmarshal(plain)
			if err != nil {
				c.t.Fatalf("rtcp from the worker: %v", err)
			}
			for _, p := range packets {
				if match(p) {
					return p
				}
			}
		case <-deadline.C:
			c.t.Fatalf("no rtcp: %s", what)
		}
	}
}
