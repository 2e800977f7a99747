package rtc

import (
	"bytes"
	"testing"
	"time"

	pionrtp "github.com/pion/rtp"
)

func TestWhenPayloadsArePadded(t *testing.T) {
	for name, row := range map[string]struct {
		padding    Padding
		wait       time.Duration
		idle, busy int
	}{
		"auto":                       {PaddingAuto, time.Millisecond, 0, padQuantum},
		"auto, but nothing may wait": {PaddingAuto, -1, 0, 0},
		"always":                     {PaddingAlways, -1, padQuantum, padQuantum},
		"off":                        {PaddingOff, time.Millisecond, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := pacer{maxWait: row.wait, padding: row.padding}
			if got := p.padTo(); got != row.idle {
				t.Errorf("an idle loop pads to %d, want %d", got, row.idle)
			}
			p.busy = 1
			if got := p.padTo(); got != row.busy {
				t.Errorf("a busy loop pads to %d, want %d", got, row.busy)
			}
		})
	}
}

// TestPaddingOnTheWire: what a client decrypts carries padding as RFC 3550 has it, an
// independent parser strips it, and the worker counts it.
func TestPaddingOnTheWire(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Padding = PaddingAlways })
	a, b := pair(r)
	r.consume(b, r.produce(a, 1111, "0"))
	sum := uint64(0)
	for seq, size := range []int{0, 1, padQuantum - 1, padQuantum, padQuantum + 1, 120, 1000, 0} {
		in := voice(1111, uint16(seq))
		in.Payload = bytes.Repeat([]byte{0xa0 + byte(seq)}, size)
		want := (padQuantum - size%padQuantum) % padQuantum
		if size == 0 { // only padding, as of a probe: it keeps its number
			in.Padding, in.Header.PaddingSize, want = true, 200, 1
		}
		sum += uint64(want)
		a.sendRTP(in)
		plain, err := b.in.DecryptRTP(nil, b.hearRaw(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var p pionrtp.Packet
		if err := p.Unmarshal(plain); err != nil {
			t.Fatal(err)
		}
		if p.Padding != (want > 0) || p.Padding != (plain[0]&0x20 != 0) || int(p.Header.PaddingSize) != want {
			t.Errorf("payload of %d bytes: padding %v of %d bytes, want %d", size, p.Padding, p.Header.PaddingSize, want)
		}
		if !bytes.Equal(p.Payload, in.Payload) {
			t.Errorf("payload of %d bytes became %x", size, p.Payload)
		}
	}
	usage, err := r.Usage(r.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if usage.PaddingBytes != sum {
		t.Errorf("%d bytes of padding counted, want %d", usage.PaddingBytes, sum)
	}
}
