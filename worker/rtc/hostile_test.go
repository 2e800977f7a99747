package rtc

import (
	"net/netip"
	"testing"

	pionstun "github.com/pion/stun/v3"

	"github.com/dspeak/sfu/worker/handshake"
)

// FuzzDatagram gives any datagram to a loop with a connected speaker and listener,
// from the speaker's own address and from a stranger's. Nothing may break, and
// nothing that is not authentic may move an address or be forwarded.
func FuzzDatagram(f *testing.F) {
	check := pionstun.MustBuild(pionstun.TransactionID, pionstun.BindingRequest, pionstun.NewUsername("a:b"),
		controlling, pionstun.NewShortTermIntegrity("x"), pionstun.Fingerprint)
	f.Add(check.Raw)
	f.Add([]byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0})
	f.Add([]byte{21, 254, 253, 0, 1, 0, 0, 0, 0, 0, 9, 0, 2, 1, 0})
	f.Add([]byte{0x80, 111, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17})
	f.Add([]byte{0x90, 111, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0xbe, 0xde, 0, 1, 0x10, 0xff, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	f.Add([]byte{0x80, 200, 0, 6, 0, 0, 0, 7})
	b := newBench(f)
	speaker, listener := b.connected(handshake.AEADAES128GCM), b.connected(handshake.AES128CMHMACSHA180)
	c := b.consume(listener, b.produce(speaker, 7))
	home := speaker.ice.selected.addr
	stranger := source{port: b.port, addr: netip.MustParseAddrPort("203.0.113.9:9")}
	f.Fuzz(func(t *testing.T, datagram []byte) {
		if len(datagram) > readBuffer {
			return
		}
		b.readClock()
		for _, src := range []*source{&speaker.src, &stranger} {
			b.onDatagram(append([]byte(nil), datagram...), src, b.now)
		}
		b.flush()
		if speaker.closed || speaker.ice.selected.addr != home {
			t.Fatal("a forged datagram moved or closed the transport")
		}
		if c.entry().packets != 0 {
			t.Fatal("a forged packet was forwarded")
		}
	})
}

// TestUnprotectedAndEarlyPacketsAreDiscarded: before DTLS is done nothing is media.
func TestUnprotectedAndEarlyPacketsAreDiscarded(t *testing.T) {
	b := newBench(t)
	p := b.connected(handshake.AEADAES128GCM)
	p.srtp = srtpState{}
	p.dtls.state = DtlsNew
	for _, datagram := range [][]byte{
		{0x80, 111, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 1, 2, 3},
		{0x80, 200, 0, 1, 0, 0, 0, 7},
	} {
		b.onDatagram(datagram, &p.src, b.now)
	}
	if p.count.discarded != 2 {
		t.Fatalf("%d discarded, want 2", p.count.discarded)
	}
	for range 100 {
		b.onDatagram([]byte{22, 254, 253, 0}, &p.src, b.now)
	}
	if len(p.dtls.early) != maxEarlyDTLS {
		t.Fatalf("%d early datagrams kept, want %d", len(p.dtls.early), maxEarlyDTLS)
	}
}

// TestSRTCPIndexesNeverRepeat: one counter serves all SSRCs of a transport, within
// the reserved block.
func TestSRTCPIndexesNeverRepeat(t *testing.T) {
	b := newBench(t)
	p := b.connected(handshake.AES128CMHMACSHA180)
	seen := map[uint32]bool{}
	for i := range 3000 {
		raw := make([]byte, 8, 8+srtcpOverhead)
		copy(raw, []byte{0x80, 201, 0, 1, 0, 0, 0, byte(i % 5)})
		protected, err := p.srtp.protectRTCP(raw)
		mustNil(t, err)
		at := protected[len(protected)-14:] // before the tag of ten bytes
		index := uint32(at[0]&0x7f)<<24 | uint32(at[1])<<16 | uint32(at[2])<<8 | uint32(at[3])
		if seen[index] || index > p.rec.RTCPReserved.Load() {
			t.Fatalf("index %d used twice or beyond the reserved %d", index, p.rec.RTCPReserved.Load())
		}
		seen[index] = true
		if _, err := p.in.DecryptRTCP(nil, protected, nil); err != nil {
			t.Fatal(err)
		}
	}
}
