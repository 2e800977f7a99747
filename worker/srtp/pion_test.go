package srtp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	pionrtp "github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"github.com/dspeak/sfu/internal/errs"
)

type profile struct {
	name string
	make func(key, salt []byte) (Context, error)
	pion srtp.ProtectionProfile
	salt int
}

func profiles() []profile {
	return []profile{
		{"gcm", NewGCM, srtp.ProtectionProfileAeadAes128Gcm, gcmSalt},
		{"sha1", NewSHA1, srtp.ProtectionProfileAes128CmHmacSha1_80, cmSalt},
	}
}

// pair is a Context and pion's twin under the same random key.
func (p *profile) pair(tb testing.TB, rng *rand.Rand) (Context, *srtp.Context) {
	tb.Helper()
	key, salt := random(rng, keySize), random(rng, p.salt)
	own, err := p.make(key, salt)
	if err != nil {
		tb.Fatal(err)
	}
	twin, err := srtp.CreateContext(key, salt, p.pion)
	if err != nil {
		tb.Fatal(err)
	}
	return own, twin
}

func random(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// TestContextIsPions compares every byte that is sealed, and opens it again, over random packets, sources and indexes, those
// around roll-overs above all.
func TestContextIsPions(t *testing.T) {
	for _, p := range profiles() {
		t.Run(p.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			for range 200 {
				own, twin := p.pair(t, rng)
				for range 20 {
					index := rng.Uint64() >> 16 >> rng.UintN(40)
					if rng.IntN(2) == 0 {
						index = index&^0xffff + uint64(rng.IntN(4)) - 2
					}
					index &= 1<<48 - 1
					header, packet := randomPacket(t, rng, uint16(index))
					ssrc := binary.BigEndian.Uint32(packet[8:])
					twin.SetROC(ssrc, uint32(index>>16))
					want, err := twin.EncryptRTP(nil, packet, nil)
					if err != nil {
						t.Fatal(err)
					}
					if got := own.RTP(withRoom(packet), header, ssrc, index); !bytes.Equal(got, want) {
						t.Fatalf("index %d of %d\ngot  %x\nwant %x", index, ssrc, got, want)
					}
					if !bytes.Equal(refused(t, rng, want, func(b []byte) ([]byte, error) { return own.OpenRTP(b, header, ssrc, index) }), packet) {
						t.Fatalf("index %d of %d is opened as another packet", index, ssrc)
					}
					if _, err := own.OpenRTP(bytes.Clone(want), header, ssrc, index^1<<16); err == nil {
						t.Fatal("opened with another roll-over counter")
					}
					compareRTCP(t, rng, own, twin)
				}
			}
		})
	}
}

func compareRTCP(t *testing.T, rng *rand.Rand, own Context, twin *srtp.Context) {
	t.Helper()
	packet := append([]byte{0x80, 200, 0, 6}, random(rng, 4*(1+rng.IntN(30)))...)
	index := 1 + rng.Uint32N(1<<31-1)>>rng.UintN(31)
	twin.SetIndex(binary.BigEndian.Uint32(packet[4:]), index-1) // it adds one before use
	want, err := twin.EncryptRTCP(nil, packet, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := own.RTCP(withRoom(packet), index); !bytes.Equal(got, want) {
		t.Fatalf("rtcp index %d\ngot  %x\nwant %x", index, got, want)
	}
	if got, ok := own.RTCPIndex(want); !ok || got != index {
		t.Fatalf("rtcp index is %d, %v; want %d", got, ok, index)
	}
	if !bytes.Equal(refused(t, rng, want, own.OpenRTCP), packet) {
		t.Fatalf("rtcp index %d is opened as another packet", index)
	}
}

// refused opens the packet, after it has tried what an attacker could make of it: another
// bit, or another end.
func refused(t *testing.T, rng *rand.Rand, packet []byte, open func([]byte) ([]byte, error)) []byte {
	t.Helper()
	forged := bytes.Clone(packet)
	forged[rng.IntN(len(forged))] ^= 1 << rng.IntN(8)
	for _, b := range [][]byte{forged, bytes.Clone(packet[:rng.IntN(len(packet))]), append(bytes.Clone(packet), 0)} {
		if plain, err := open(b); !errors.Is(err, errs.ErrDenied) {
			t.Fatalf("%x is opened as %x: %v", b, plain, err)
		}
	}
	plain, err := open(bytes.Clone(packet))
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// withRoom copies a packet to a slice of which no byte behind the room may change.
func withRoom(b []byte) []byte {
	return append(make([]byte, 0, len(b)+MaxTag+4), b...)
}

func randomPacket(t *testing.T, rng *rand.Rand, seq uint16) (header int, packet []byte) {
	t.Helper()
	h := pionrtp.Header{Version: 2, SequenceNumber: seq, SSRC: rng.Uint32(), Timestamp: rng.Uint32(), PayloadType: 111}
	if rng.IntN(2) == 0 {
		if err := h.SetExtension(1, random(rng, 1+rng.IntN(10))); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := h.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return len(raw), append(raw, random(rng, rng.IntN(300))...)
}

func TestWrongSizesAreRefused(t *testing.T) {
	for _, p := range profiles() {
		for _, sizes := range [][2]int{{0, p.salt}, {15, p.salt}, {17, p.salt}, {32, p.salt}, {keySize, p.salt - 1}, {keySize, p.salt + 2}} {
			if _, err := p.make(make([]byte, sizes[0]), make([]byte, sizes[1])); !errors.Is(err, errs.ErrInvalid) {
				t.Errorf("%s %v: %v", p.name, sizes, err)
			}
		}
	}
}

func TestNoAllocation(t *testing.T) {
	for _, p := range profiles() {
		own, _ := p.pair(t, rand.New(rand.NewPCG(1, 2)))
		b, index := make([]byte, 150, 150+MaxTag+4), uint64(0)
		if n := testing.AllocsPerRun(100, func() { index++; own.RTP(b, 20, 7, index); own.RTCP(b, uint32(index)) }); n != 0 {
			t.Errorf("%s: %v allocations", p.name, n)
		}
	}
}

// BenchmarkSeal is one packet of 120 bytes of payload, for so many listeners in turn.
func BenchmarkSeal(b *testing.B) {
	for _, p := range profiles() {
		for _, listeners := range []int{1, 200} {
			rng := rand.New(rand.NewPCG(1, 2))
			var own []Sealer
			var twins []*srtp.Context
			for range listeners {
				o, twin := p.pair(b, rng)
				own, twins = append(own, o), append(twins, twin)
			}
			packet := make([]byte, 140, 140+MaxTag)
			packet[0] = 0x80
			b.Run(fmt.Sprintf("%s/listeners=%d/own", p.name, listeners), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					binary.BigEndian.PutUint16(packet[2:], uint16(i))
					own[i%listeners].RTP(packet, 12, 0, uint64(i))
				}
			})
			b.Run(fmt.Sprintf("%s/listeners=%d/pion", p.name, listeners), func(b *testing.B) {
				var header pionrtp.Header
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					binary.BigEndian.PutUint16(packet[2:], uint16(i))
					twins[i%listeners].SetROC(0, uint32(i>>16))
					if _, err := twins[i%listeners].EncryptRTP(packet, packet, &header); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
