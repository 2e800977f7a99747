package rtp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	pion "github.com/pion/rtp"

	"github.com/dspeak/sfu/internal/errs"
)

// packet is built by pion: a browser's audio packet.
func packet(tb testing.TB, profile uint16, extensions map[uint8][]byte, padding byte) []byte {
	tb.Helper()
	p := pion.Packet{
		Header: pion.Header{
			Version: 2, Marker: true, PayloadType: 111, SequenceNumber: 65535, Timestamp: 4000000000, SSRC: 0xdeadbeef,
			CSRC: []uint32{7}, ExtensionProfile: profile, Extension: len(extensions) > 0,
		},
		Payload: []byte("opus frame"), PaddingSize: padding,
	}
	p.Padding = padding > 0
	for id, value := range extensions {
		if err := p.SetExtension(id, value); err != nil {
			tb.Fatal(err)
		}
	}
	b, err := p.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// maxFuzz is the size of a datagram: larger input only makes fuzzing slow.
const maxFuzz = 1500

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// Packets in the layouts of browsers: audio level 10, abs-send-time 4, transport-wide
// number 5 and mid 1, in the order of each.
const (
	chromiumVoice = "90e4162e4a5b6c7d00c0ffee" + "bede0004" + "a085" + "42123456" + "510007" + "1030" + "0000000000" + "7883d0b4ee"
	chromiumProbe = "b064000100000000deadbeef" + "bede0001" + "51123400" + "7883d0b4ee" + "000003"
	firefoxVoice  = "90640001000003c0cafebabe" + "bede0001" + "1030a07f" + "fcfffe"
	firefoxDTX    = "8064000200001e00cafebabe" + "fc"
)

func TestParseReadsWhatPionWrites(t *testing.T) {
	for name, profile := range map[string]uint16{"one byte": profileOneByte, "two bytes": profileTwoByte} {
		t.Run(name, func(t *testing.T) {
			b := packet(t, profile, map[uint8][]byte{1: []byte("mid0"), 10: {0x85}}, 5)
			var h Header
			if err := Parse(b, &h); err != nil {
				t.Fatal(err)
			}
			if h.SSRC != 0xdeadbeef || h.SequenceNumber != 65535 || h.Timestamp != 4000000000 || h.PayloadType != 111 || !h.Marker {
				t.Fatalf("header %+v", h)
			}
			if string(h.Extension(1)) != "mid0" || !bytes.Equal(h.Extension(10), []byte{0x85}) || h.Extension(3) != nil {
				t.Fatalf("extensions %q, %v, %v", h.Extension(1), h.Extension(10), h.Extension(3))
			}
			payload, err := Payload(b, &h)
			if err != nil || string(payload) != "opus frame" {
				t.Fatalf("payload %q, %v", payload, err)
			}
		})
	}
}

func TestBrowserPackets(t *testing.T) {
	for name, tc := range map[string]struct {
		packet         string
		mid            string
		level          []byte
		payload        int
		padded, marker bool
	}{
		"Chromium, voice": {packet: chromiumVoice, mid: "0", level: []byte{0x85}, payload: 5, marker: true},
		"Chromium, probe": {packet: chromiumProbe, padded: true, payload: 5},
		"Firefox, voice":  {packet: firefoxVoice, mid: "0", level: []byte{0x7f}, payload: 3},
		"Firefox, DTX":    {packet: firefoxDTX, payload: 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := unhex(t, tc.packet)
			var h Header
			if err := Parse(b, &h); err != nil {
				t.Fatal(err)
			}
			payload, err := Payload(b, &h)
			if err != nil || len(payload) != tc.payload || h.Padding != tc.padded || h.Marker != tc.marker || h.PayloadType != 100 {
				t.Fatalf("header %+v, payload %x, %v", h, payload, err)
			}
			if string(h.Extension(1)) != tc.mid || !bytes.Equal(h.Extension(10), tc.level) {
				t.Fatalf("mid %q, level %x", h.Extension(1), h.Extension(10))
			}
		})
	}
}

func TestExtensionBlocks(t *testing.T) {
	const header = "906400010000000200000003"
	for name, tc := range map[string]struct {
		block string // profile, length, elements
		id    uint8
		want  []byte // nil: none
	}{
		"one byte: found":                     {"bede0001" + "10301085", 1, []byte{0x30}},
		"one byte: padding between":           {"bede0002" + "1030000000a08500", 10, []byte{0x85}},
		"one byte: of two the first":          {"bede0001" + "10301031", 1, []byte{0x30}},
		"one byte: 16 bytes":                  {"bede0005" + "1f000102030405060708090a0b0c0d0e0f" + "000000", 1, []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}},
		"one byte: not there":                 {"bede0001" + "10301085", 2, nil},
		"one byte: id 15 ends it":             {"bede0001" + "f0001030", 1, nil},
		"one byte: id 15 is none":             {"bede0001" + "f0301030", 15, nil},
		"one byte: before id 15":              {"bede0001" + "1030f000", 1, []byte{0x30}},
		"one byte: id 0 with a length ends":   {"bede0001" + "01303010", 1, nil},
		"one byte: id 0 names none":           {"bede0001" + "03000000", 0, nil},
		"one byte: element beyond the block":  {"bede0001" + "1f303030", 1, nil},
		"one byte: an id beyond its form":     {"bede0001" + "10301085", 17, nil},
		"one byte: empty block":               {"bede0000", 1, nil},
		"two bytes: found":                    {"10000001" + "01023031", 1, []byte("01")},
		"two bytes: empty value":              {"10000001" + "01000000", 1, []byte{}},
		"two bytes: appbits":                  {"10050001" + "01023031", 1, []byte("01")},
		"two bytes: padding between":          {"10000002" + "0000c801" + "05000000", 200, []byte{5}},
		"two bytes: id 15 is an id":           {"10000001" + "0f010500", 15, []byte{5}},
		"two bytes: id alone at the end":      {"10000001" + "00000001", 1, nil},
		"two bytes: element beyond the block": {"10000001" + "01ff3031", 1, nil},
		"another profile":                     {"12340001" + "10301085", 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var h Header
			if err := Parse(unhex(t, header+tc.block), &h); err != nil {
				t.Fatal(err)
			}
			got := h.Extension(tc.id)
			if !bytes.Equal(got, tc.want) || (got == nil) != (tc.want == nil) {
				t.Fatalf("got %x, want %x", got, tc.want)
			}
		})
	}
}

func TestParseLeavesNothingOfThePacketBefore(t *testing.T) {
	var h Header
	if err := Parse(unhex(t, firefoxVoice), &h); err != nil {
		t.Fatal(err)
	}
	if err := Parse(unhex(t, firefoxDTX), &h); err != nil {
		t.Fatal(err)
	}
	if h.Extension(1) != nil || h.Size != HeaderSize {
		t.Fatalf("header %+v", h)
	}
}

func TestMalformedHeaders(t *testing.T) {
	good := packet(t, profileOneByte, map[uint8][]byte{1: []byte("m")}, 0)
	long := bytes.Clone(good)
	long[19] = 200 // words of extension
	for name, b := range map[string][]byte{
		"empty":                  nil,
		"short":                  good[:11],
		"version 1":              append([]byte{0x40}, good[1:]...),
		"version 3":              append([]byte{0xc0}, good[1:]...),
		"extension too long":     long,
		"extension header cut":   good[:18],
		"contributing sources":   {0x8f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"sources and extensions": {0x91, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7},
	} {
		t.Run(name, func(t *testing.T) {
			var h Header
			if err := Parse(b, &h); !errors.Is(err, errs.ErrInvalid) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestPayload(t *testing.T) {
	const header = "a06400010000000200000003"
	for name, tc := range map[string]struct {
		rest string
		want int // length, -1: malformed
	}{
		"one byte of padding":      {"112201", 2},
		"four bytes of padding":    {"1100000004", 1},
		"nothing but padding":      {"000003", 0},
		"more than there is":       {"000004", -1},
		"much more than there is":  {"0000ff", -1},
		"zero bytes":               {"112200", -1},
		"no room for the length":   {"", -1},
		"the header is no padding": {"0d", -1},
	} {
		t.Run(name, func(t *testing.T) {
			b := unhex(t, header+tc.rest)
			var h Header
			if err := Parse(b, &h); err != nil {
				t.Fatal(err)
			}
			got, err := Payload(b, &h)
			if tc.want < 0 && !errors.Is(err, errs.ErrInvalid) || tc.want >= 0 && (err != nil || len(got) != tc.want) {
				t.Fatalf("got %x, %v", got, err)
			}
		})
	}
	var h Header
	if err := Parse(unhex(t, firefoxVoice), &h); err != nil {
		t.Fatal(err)
	}
	if _, err := Payload(nil, &h); !errors.Is(err, errs.ErrInvalid) {
		t.Errorf("a packet shorter than its header: %v", err)
	}
}

// twinClassify is RFC 7983 section 7 and RFC 5761 section 4 as tables.
func twinClassify(first, second byte) Kind {
	for _, r := range []struct {
		low, high byte
		kind      Kind
	}{{0, 3, KindSTUN}, {20, 63, KindDTLS}, {128, 191, KindRTP}} {
		if first < r.low || first > r.high {
			continue
		}
		if r.kind == KindRTP && second >= 192 && second <= 223 {
			return KindRTCP
		}
		return r.kind
	}
	return KindUnknown
}

func TestClassify(t *testing.T) {
	for i := range 1 << 16 {
		b := []byte{byte(i >> 8), byte(i)}
		if got, want := Classify(b), twinClassify(b[0], b[1]); got != want {
			t.Fatalf("%x is %d, want %d", b, got, want)
		}
	}
	if Classify(nil) != KindUnknown || Classify([]byte{0x80}) != KindUnknown {
		t.Error("less than two bytes are something")
	}
}

// FuzzHeader compares with pion, which refuses more: whole packets with a malformed
// extension block.
func FuzzHeader(f *testing.F) {
	for _, s := range []string{chromiumVoice, chromiumProbe, firefoxVoice, firefoxDTX} {
		f.Add(unhex(f, s))
	}
	f.Add(packet(f, profileOneByte, map[uint8][]byte{1: []byte("m")}, 3))
	f.Add(packet(f, profileTwoByte, map[uint8][]byte{200: []byte("long enough value")}, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), maxFuzz)]
		var h Header
		err := Parse(b, &h)
		var twin pion.Packet
		twinErr := twin.Unmarshal(b)
		if err != nil {
			if twinErr == nil && twin.Version == 2 {
				t.Fatalf("refused, but pion reads %+v", twin.Header)
			}
			return
		}
		payload, err := Payload(b, &h)
		for id := range 256 {
			_ = h.Extension(uint8(id))
		}
		if twinErr != nil {
			return
		}
		if h.SSRC != twin.SSRC || h.SequenceNumber != twin.SequenceNumber || h.Timestamp != twin.Timestamp ||
			h.PayloadType != twin.PayloadType || h.Marker != twin.Marker || h.Padding != twin.Padding {
			t.Fatalf("read %+v, pion %+v", h, twin.Header)
		}
		if err == nil && !bytes.Equal(payload, twin.Payload) {
			t.Fatalf("payload %x, pion's %x", payload, twin.Payload)
		}
		compareExtensions(t, &h, &twin.Header)
	})
}

func compareExtensions(t *testing.T, h *Header, twin *pion.Header) {
	t.Helper()
	if !twin.Extension || h.profile != profileOneByte && h.profile != profileTwoByte {
		return // pion does not know the application bits of the two-byte form
	}
	for id := 1; id < 256; id++ {
		if got, want := h.Extension(uint8(id)), twin.GetExtension(uint8(id)); !bytes.Equal(got, want) {
			t.Fatalf("extension %d is %x, pion's %x", id, got, want)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	p := unhex(b, chromiumVoice)
	b.Run("own", func(b *testing.B) {
		var h Header
		b.ReportAllocs()
		for b.Loop() {
			if Parse(p, &h) != nil || h.Extension(10) == nil || h.Extension(1) == nil {
				b.Fatal("not parsed")
			}
		}
	})
	b.Run("pion", func(b *testing.B) {
		var h pion.Header
		b.ReportAllocs()
		for b.Loop() {
			if _, err := h.Unmarshal(p); err != nil || h.GetExtension(10) == nil || h.GetExtension(1) == nil {
				b.Fatal("not parsed")
			}
		}
	})
}
