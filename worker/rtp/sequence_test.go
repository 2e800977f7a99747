package rtp

import "testing"

func TestExtendSequence(t *testing.T) {
	for _, tc := range []struct {
		name    string
		highest uint64
		seq     uint16
		want    uint64
	}{
		{"next", 100, 101, 101},
		{"late", 100, 90, 90},
		{"wrap forward", 0xfffe, 1, 0x10001},
		{"late across the wrap", 0x10001, 0xfffe, 0xfffe},
		{"largest step forward", 0x18000, 0xffff, 0x1ffff},
		{"no rollover below zero", 5, 0xfff0, 0xfff0},
		{"high counter", 1<<40 + 0xffff, 0, 1<<40 + 0x10000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := ExtendSequence(tc.highest, tc.seq); got != tc.want {
				t.Fatalf("got %#x, want %#x", got, tc.want)
			}
		})
	}
}

// FuzzExtendSequence: the result has the sequence number's bits and is the nearest
// such number that is not negative.
func FuzzExtendSequence(f *testing.F) {
	f.Add(uint64(65535), uint16(0))
	f.Add(uint64(0), uint16(65535))
	f.Fuzz(func(t *testing.T, highest uint64, seq uint16) {
		highest &= 1<<47 - 1
		got := ExtendSequence(highest, seq)
		if uint16(got) != seq {
			t.Fatalf("%#x for %#x", got, seq)
		}
		if d := int64(got - highest); d > 1<<15 && got >= 1<<16 || d < -1<<15 {
			t.Fatalf("%#x is %d from %#x", got, d, highest)
		}
	})
}
