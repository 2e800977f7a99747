package rtp

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	pion "github.com/pion/rtp"
)

// voiceFields are those of a consumer in a browser.
func voiceFields() HeaderFields {
	return HeaderFields{SSRC: 0xcafebabe, PayloadType: 100, Mid: "12", MidID: 1, AbsSendTimeID: 4, AudioLevelID: 10}
}

// patch fills the changing fields of a built header in, as the packet path does.
func patch(b []byte, l *Layout, seq uint16, timestamp, sendTime uint32, level byte, hasLevel bool) {
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[4:], timestamp)
	if o := l.AbsSendTime; o != 0 {
		b[o], b[o+1], b[o+2] = byte(sendTime>>16), byte(sendTime>>8), byte(sendTime)
	}
	if o := l.AudioLevel; o != 0 {
		if hasLevel {
			b[o+l.AudioLevelSize-1] = level
		} else {
			clear(b[o : o+l.AudioLevelSize])
		}
	}
}

func TestAppendHeaderIsReadByPion(t *testing.T) {
	for name, tc := range map[string]struct {
		fields  HeaderFields
		profile uint16 // 0: no block
	}{
		"no extensions":         {HeaderFields{SSRC: 5, PayloadType: 100}, 0},
		"all":                   {voiceFields(), profileOneByte},
		"mid only":              {HeaderFields{PayloadType: 127, Mid: "0", MidID: 14}, profileOneByte},
		"level only":            {HeaderFields{AudioLevelID: 1}, profileOneByte},
		"send time only":        {HeaderFields{AbsSendTimeID: 14}, profileOneByte},
		"mid of 16 bytes":       {HeaderFields{Mid: strings.Repeat("m", 16), MidID: 1, AudioLevelID: 2}, profileOneByte},
		"mid of 17 bytes":       {HeaderFields{Mid: strings.Repeat("m", 17), MidID: 1, AudioLevelID: 2}, profileTwoByte},
		"an id above 14":        {HeaderFields{Mid: "1", MidID: 15, AbsSendTimeID: 3, AudioLevelID: 2}, profileTwoByte},
		"a high id":             {HeaderFields{Mid: "1", MidID: 1, AbsSendTimeID: 3, AudioLevelID: 255}, profileTwoByte},
		"a mid that is not set": {HeaderFields{MidID: 1, AudioLevelID: 2}, profileOneByte},
	} {
		t.Run(name, func(t *testing.T) {
			f := tc.fields
			for _, hasLevel := range []bool{true, false} {
				b, l := AppendHeader([]byte("before"), f)
				b = b[len("before"):]
				patch(b, &l, 65535, 0xfedcba98, 0x010203, 0x80|30, hasLevel)
				if len(b) != l.Size || len(b)%4 != 0 {
					t.Fatalf("%d bytes, size %d", len(b), l.Size)
				}
				var h pion.Header
				n, err := h.Unmarshal(b)
				if err != nil || n != l.Size || h.SSRC != f.SSRC || h.PayloadType != f.PayloadType || h.SequenceNumber != 65535 ||
					h.Timestamp != 0xfedcba98 || h.Marker || h.Padding || len(h.CSRC) != 0 || h.ExtensionProfile != tc.profile {
					t.Fatalf("pion reads %+v, %d of %d bytes, %v", h, n, l.Size, err)
				}
				want := map[uint8]string{}
				if f.MidID != 0 && f.Mid != "" {
					want[f.MidID] = f.Mid
				}
				if f.AbsSendTimeID != 0 {
					want[f.AbsSendTimeID] = "\x01\x02\x03"
				}
				if f.AudioLevelID != 0 && hasLevel {
					want[f.AudioLevelID] = "\x9e"
				}
				if len(h.Extensions) != len(want) {
					t.Fatalf("extensions %v, want %v", h.GetExtensionIDs(), want)
				}
				for id, value := range want {
					if string(h.GetExtension(id)) != value {
						t.Fatalf("extension %d is %x, want %x", id, h.GetExtension(id), value)
					}
				}
			}
		})
	}
}

func TestHeaderIsReadBack(t *testing.T) {
	b, l := AppendHeader(nil, voiceFields())
	patch(b, &l, 7, 8, 9, 0x55, true)
	var h Header
	if err := Parse(b, &h); err != nil {
		t.Fatal(err)
	}
	if h.Size != l.Size || string(h.Extension(1)) != "12" || !bytes.Equal(h.Extension(4), []byte{0, 0, 9}) ||
		!bytes.Equal(h.Extension(10), []byte{0x55}) {
		t.Fatalf("header %+v", h)
	}
}

// BenchmarkHeader sets a header that is copied and patched beside one that is built
// for every packet, and beside pion's.
func BenchmarkHeader(b *testing.B) {
	fields := voiceFields()
	dst := make([]byte, 0, 1500)
	b.Run("patched", func(b *testing.B) {
		template, l := AppendHeader(nil, fields)
		b.ReportAllocs()
		for b.Loop() {
			dst = append(dst[:0], template...)
			patch(dst, &l, 7, 8, 9, 0x55, true)
		}
	})
	b.Run("built", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var l Layout
			dst, l = AppendHeader(dst[:0], fields)
			patch(dst, &l, 7, 8, 9, 0x55, true)
		}
	})
	b.Run("pion", func(b *testing.B) {
		dst := dst[:cap(dst)]
		h := pion.Header{Version: 2, PayloadType: 100, SSRC: fields.SSRC}
		b.ReportAllocs()
		for b.Loop() {
			h.SequenceNumber, h.Timestamp = 7, 8
			if h.SetExtension(4, []byte{0, 0, 9}) != nil || h.SetExtension(10, []byte{0x55}) != nil || h.SetExtension(1, []byte("12")) != nil {
				b.Fatal("not set")
			}
			if _, err := h.MarshalTo(dst); err != nil {
				b.Fatal(err)
			}
		}
	})
}
