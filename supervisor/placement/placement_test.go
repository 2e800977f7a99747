package placement

import (
	"testing"

	"github.com/dspeak/sfu/internal/ident"
)

func TestChoose(t *testing.T) {
	for name, row := range map[string]struct {
		loads []Load
		want  ident.Slot
		ok    bool
	}{
		"no workers":     {nil, 0, false},
		"none serves":    {[]Load{{Slot: 0}, {Slot: 1}}, 0, false},
		"only one":       {[]Load{{Slot: 0}, {Slot: 1, Serving: true, CPUShare: 0.9}}, 1, true},
		"less CPU":       {[]Load{{Slot: 0, Serving: true, CPUShare: 0.5}, {Slot: 1, Serving: true, CPUShare: 0.2}}, 1, true},
		"less consumers": {[]Load{{Slot: 0, Serving: true, Consumers: 900}, {Slot: 1, Serving: true, Consumers: 100}}, 1, true},
		"fresh channels": {[]Load{{Slot: 0, Serving: true, Channels: 1}, {Slot: 1, Serving: true}}, 1, true},
		"equal":          {[]Load{{Slot: 1, Serving: true}, {Slot: 0, Serving: true}}, 0, true},
		"idle but hung":  {[]Load{{Slot: 0}, {Slot: 1, Serving: true, Consumers: 5000}}, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := Choose(row.loads); got != row.want || ok != row.ok {
				t.Fatalf("got %d, %v; want %d, %v", got, ok, row.want, row.ok)
			}
		})
	}
}

func TestChannelsSpreadEvenly(t *testing.T) {
	loads := []Load{{Slot: 0, Serving: true}, {Slot: 1, Serving: true}, {Slot: 2, Serving: true}}
	for range 300 {
		slot, ok := Choose(loads)
		if !ok {
			t.Fatal("none chosen")
		}
		loads[slot].Channels++
	}
	for _, l := range loads {
		if l.Channels != 100 {
			t.Fatalf("slot %d has %d channels, want 100", l.Slot, l.Channels)
		}
	}
}
