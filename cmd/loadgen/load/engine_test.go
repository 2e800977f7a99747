package load

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/worker/handshake"
)

const testSSRC = 4242

// peer is the server's end of a connected transport.
type peer struct {
	t         *testing.T
	fd        int
	hearer    *transport
	pair      *pair
	protect   *srtp.Context
	unprotect *srtp.Context
}

// newPeer adds a transport to the engine that hears one speaker of 100 slots.
func newPeer(t *testing.T, e *engine) *peer {
	t.Helper()
	fd, err := openUDP(netip.MustParseAddrPort("127.0.0.1:0"), unix.SOCK_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	address, err := localAddress(fd)
	if err != nil {
		t.Fatal(err)
	}
	there, err := dialUDP(address)
	if err != nil {
		t.Fatal(err)
	}
	back, err := localAddress(there)
	if err != nil {
		t.Fatal(err)
	}
	_, name := sockaddr(back)
	if err := unix.Connect(fd, name); err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, fd: fd, hearer: &transport{engine: e, fd: there, done: make(chan struct{})}}
	p.connect()
	s := &speaker{ssrc: 1, firstTimestamp: 1000, step: 960, sentAt: make([]atomic.Int64, 100)}
	for i := range s.sentAt {
		s.sentAt[i].Store(time.Now().UnixNano())
	}
	p.pair = newPair(s)
	p.hearer.pairs.Store(&map[uint32]*pair{testSSRC: p.pair})
	if err := e.add(p.hearer); err != nil {
		t.Fatal(err)
	}
	return p
}

// connect gives both ends the keys of one handshake.
func (p *peer) connect() {
	p.t.Helper()
	key := make([]byte, 16+12+16+12)
	_, _ = rand.Read(key)
	result := handshake.Result{
		Profile: handshake.AEADAES128GCM, LocalKey: key[:16], LocalSalt: key[16:28], RemoteKey: key[28:44], RemoteSalt: key[44:],
	}
	p.hearer.connected(result)
	result.LocalKey, result.LocalSalt, result.RemoteKey, result.RemoteSalt = result.RemoteKey, result.RemoteSalt, result.LocalKey, result.LocalSalt
	var err error
	if p.protect, p.unprotect, err = contexts(result); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) write(datagram []byte, err error) {
	p.t.Helper()
	if err == nil {
		_, err = unix.Write(p.fd, datagram)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// speak sends the packet of a slot.
func (p *peer) speak(slot int) {
	p.t.Helper()
	packet := rtp.Packet{
		Header:  rtp.Header{Version: 2, SSRC: testSSRC, SequenceNumber: uint16(slot), Timestamp: 1000 + uint32(slot)*960},
		Payload: make([]byte, 100),
	}
	plain, err := packet.Marshal()
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(p.protect.EncryptRTP(nil, plain, nil))
}

// report sends RTCP.
func (p *peer) report(packets ...rtcp.Packet) {
	p.t.Helper()
	plain, err := rtcp.Marshal(packets)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(p.protect.EncryptRTCP(nil, plain, nil))
}

// await returns the first RTCP packet that the engine sends; checks are passed over.
func (p *peer) await() rtcp.Packet {
	p.t.Helper()
	buffer := make([]byte, datagramSize)
	for {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 10_000); err != nil && !errors.Is(err, unix.EINTR) {
			p.t.Fatal(err)
		}
		n, err := unix.Read(p.fd, buffer)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			p.t.Fatal(err)
		}
		if buffer[0] < 4 {
			continue
		}
		plain, err := p.unprotect.DecryptRTCP(nil, buffer[:n], nil)
		if err != nil {
			p.t.Fatal(err)
		}
		packets, err := rtcp.Unmarshal(plain)
		if err != nil {
			p.t.Fatal(err)
		}
		return packets[0]
	}
}

// eventually waits for a condition of what the engine tells.
func eventually(t *testing.T, there func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !there() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("it did not happen")
		}
	}
}

func TestEngineCountsWhatArrives(t *testing.T) {
	cfg := valid()
	cfg.Rounds = 2 // of 25 slots
	e, stop := startEngine(t, cfg)
	p := newPeer(t, e)
	e.windows.begin(10)
	for slot := range 40 { // of which 10 to 34 are counted
		p.speak(slot)
	}
	eventually(t, func() bool { return e.delivered.Load() == 25 })
	e.windows.begin(50)
	p.speak(50)
	p.speak(50) // a duplicate, sealed anew
	p.write([]byte{0x80, 111, 0, 1, 0, 0, 0, 0, 9, 9, 9, 9, 0}, nil)
	p.write([]byte{1, 2, 3}, nil)
	p.speak(51)
	eventually(t, func() bool { return e.delivered.Load() == 27 })
	stop()
	if p.pair.duplicate != 1 || e.unknown != 1 || e.malformed != 1 || e.unauthenticated != 0 || e.authenticated == 0 {
		t.Errorf("duplicate %d, unknown %d, malformed %d, unauthenticated %d, authenticated %d",
			p.pair.duplicate, e.unknown, e.malformed, e.unauthenticated, e.authenticated)
	}
	first, second := e.tallies[0], e.tallies[1]
	if first.delivered != 25 || second.delivered != 2 || first.bytes != 25*(12+100+16) || first.latency.count != 25 {
		t.Errorf("rounds have %d and %d packets, %d bytes", first.delivered, second.delivered, first.bytes)
	}
}

func TestEngineRefusesForgedPackets(t *testing.T) {
	cfg := valid()
	e, stop := startEngine(t, cfg)
	p := newPeer(t, e)
	e.windows.begin(0)
	forged := make([]byte, 128)
	copy(forged, []byte{0x80, 111, 0, 1, 0, 0, 3, 232, 0, 0, 16, 146})
	p.write(forged, nil) // the first packet of a pair is always checked
	p.speak(1)
	eventually(t, func() bool { return e.delivered.Load() == 1 })
	stop()
	if e.unauthenticated != 1 {
		t.Fatalf("%d packets were refused, want 1", e.unauthenticated)
	}
}

func TestEngineSpeaksRTCP(t *testing.T) {
	e, stop := startEngine(t, valid())
	p := newPeer(t, e)
	p.report(&rtcp.SenderReport{SSRC: testSSRC, NTPTime: 0x1234_5678_9abc_def0})
	p.report(&rtcp.ReceiverReport{SSRC: 1}, &rtcp.TransportLayerNack{MediaSSRC: 1, Nacks: []rtcp.NackPair{{PacketID: 1}}})
	p.report(&rtcp.Goodbye{Sources: []uint32{1}})
	p.write([]byte{0x80, 200, 0, 1, 0, 0, 0, 0, 9, 9, 9, 9}, nil)
	p.speak(0)
	p.speak(2)
	report, ok := p.await().(*rtcp.ReceiverReport)
	stop()
	if !ok || len(report.Reports) != 1 {
		t.Fatalf("got %v, want a receiver report", report)
	}
	if r := report.Reports[0]; r.SSRC != testSSRC || r.TotalLost != 1 || r.LastSenderReport != 0x5678_9abc || r.LastSequenceNumber != 2 {
		t.Errorf("reported %+v", r)
	}
	want := RTCPCounts{SenderReports: 1, ReceiverReports: 1, NACKs: 1, Other: 1, Malformed: 1, ReceiverReportsSent: e.reports.ReceiverReportsSent}
	if e.reports != want || want.ReceiverReportsSent == 0 {
		t.Errorf("counted %+v, want %+v", e.reports, want)
	}
}
