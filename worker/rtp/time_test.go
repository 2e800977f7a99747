package rtp

import (
	"bytes"
	"testing"
	"time"

	pion "github.com/pion/rtp"
)

func TestNTP(t *testing.T) {
	for _, tc := range []struct {
		nanos int64
		want  uint64
	}{
		{0, 2208988800 << 32},
		{500_000_000, 2208988800<<32 | 1<<31},
		{1_999_999_999, 2208988801<<32 | 0xfffffffb},
		{2085978496 * int64(time.Second), 0}, // the era ends in 2036
	} {
		if got := NTP(tc.nanos); got != tc.want {
			t.Errorf("%d ns is %#x, want %#x", tc.nanos, got, tc.want)
		}
	}
	if got := Middle32(0x0123456789abcdef); got != 0x456789ab {
		t.Errorf("middle %#x", got)
	}
}

func TestRoundTrip(t *testing.T) {
	const base = 1700000000_000000000
	now := NTP(base + 150_000_000)
	sent := Middle32(NTP(base))
	for name, tc := range map[string]struct {
		rep  ReceptionReport
		want time.Duration // below 0: none
	}{
		"with a delay":                  {ReceptionReport{LastSenderReport: sent, Delay: 1 << 16 / 10}, 50 * time.Millisecond},
		"without":                       {ReceptionReport{LastSenderReport: sent}, 150 * time.Millisecond},
		"no report of ours":             {ReceptionReport{}, -1},
		"a trifle below zero":           {ReceptionReport{LastSenderReport: Middle32(now), Delay: 3}, 0},
		"from the future":               {ReceptionReport{LastSenderReport: Middle32(now) + 1<<16}, -1},
		"a delay longer than the time":  {ReceptionReport{LastSenderReport: sent, Delay: 1 << 16}, -1},
		"too long ago":                  {ReceptionReport{LastSenderReport: Middle32(now) - 61<<16}, -1},
		"a delay that is no delay":      {ReceptionReport{LastSenderReport: sent, Delay: 1 << 31}, -1},
		"across the wrap of the middle": {ReceptionReport{LastSenderReport: Middle32(now) - 1<<15, Delay: 1 << 14}, 250 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			rtt, ok := RoundTrip(now, tc.rep)
			if ok != (tc.want >= 0) || ok && (rtt-tc.want).Abs() > time.Millisecond {
				t.Fatalf("round trip %s, %v", rtt, ok)
			}
		})
	}
	wrapped := uint64(5) << 32 // the middle wrapped five seconds ago
	if rtt, ok := RoundTrip(wrapped, ReceptionReport{LastSenderReport: 1<<32 - 1<<16, Delay: 5 << 16}); !ok || rtt != time.Second {
		t.Fatalf("round trip across the wrap %s, %v", rtt, ok)
	}
}

func TestAbsSendTimeIsPions(t *testing.T) {
	for _, nanos := range []int64{123456789, 999999999, 0, 63_999_999_999} {
		at := time.Unix(1700000000, 0).Add(time.Duration(nanos))
		want, err := pion.NewAbsSendTimeExtension(at).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got := AbsSendTime(at.UnixNano())
		if !bytes.Equal([]byte{byte(got >> 16), byte(got >> 8), byte(got)}, want) {
			t.Errorf("%s: got %06x, want %x", at, got, want)
		}
	}
}
