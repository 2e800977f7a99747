package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
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
		"noise decides between equals only": {
			[]Load{{Slot: 0, Serving: true, CPUShare: 0.08}, {Slot: 1, Serving: true, CPUShare: 0.01, Channels: 1}}, 0, true,
		},
		"the less noisy of equals": {
			[]Load{{Slot: 0, Serving: true, CPUShare: 0.08, Channels: 1}, {Slot: 1, Serving: true, CPUShare: 0.01, Channels: 1}}, 1, true,
		},
		"CPU that channels explain": { // 25 channels may well need 0.5
			[]Load{{Slot: 0, Serving: true, CPUShare: 0.5, Channels: 25}, {Slot: 1, Serving: true, CPUShare: 0.1, Channels: 26}}, 0, true,
		},
		"CPU that channels do not explain": {
			[]Load{{Slot: 0, Serving: true, CPUShare: 0.7, Channels: 2}, {Slot: 1, Serving: true, CPUShare: 0.1, Channels: 26}}, 1, true,
		},
		"fresh channels beside a measured load": {
			[]Load{{Slot: 0, Serving: true, CPUShare: 0.5, Channels: 1}, {Slot: 1, Serving: true, CPUShare: 0.5, Channels: 1, Fresh: 80}}, 0, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := Choose(row.loads); got != row.want || ok != row.ok {
				t.Fatalf("got %d, %v; want %d, %v", got, ok, row.want, row.ok)
			}
		})
	}
}

func TestAdd(t *testing.T) {
	var l Load
	l.Add(3, false)
	l.Add(200, false)
	l.Add(1, true)
	l.Add(100, true)
	if want := (Load{Channels: 4, Consumers: 140, Fresh: 180}); l != want {
		t.Fatalf("got %+v, want %+v", l, want)
	}
}

func serving(n int) []Load {
	loads := make([]Load, n)
	for i := range loads {
		loads[i].Slot, loads[i].Serving = ident.Slot(i), true
	}
	return loads
}

func TestChannelsSpreadEvenly(t *testing.T) {
	loads := serving(3)
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

// TestLoadIsEvenedOut: a worker that carries a large channel gets others only once
// they are as much.
func TestLoadIsEvenedOut(t *testing.T) {
	loads := serving(4)
	loads[2].Add(900, false)
	loads[2].CPUShare = 0.2
	for range 31 {
		slot, _ := Choose(loads)
		loads[slot].Add(1, true)
	}
	for _, l := range loads {
		if want := []int{10, 10, 1, 10}[l.Slot]; l.Channels < want || l.Channels > want+1 {
			t.Errorf("slot %d has %d channels, want %d or one more", l.Slot, l.Channels, want)
		}
	}
}

// TestBurstIsEven: whatever a burst finds measured, as long as it is noise, no worker
// gets more than one channel above another; and a measured load is made up for.
func TestBurstIsEven(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 7))
		loads := serving(1 + rng.IntN(16))
		n := rng.IntN(400)
		t.Run(fmt.Sprintf("%d on %d", n, len(loads)), func(t *testing.T) {
			for i := range n {
				if i%20 == 0 { // new figures come in the middle, and they contain anything
					for s := range loads {
						loads[s].CPUShare, loads[s].Fresh = toleratedShare*rng.Float64(), 0
					}
				}
				slot, _ := Choose(loads)
				loads[slot].Add(rng.IntN(channelConsumers), rng.IntN(2) == 0)
			}
			least := slices.MinFunc(loads, byChannels).Channels
			if most := slices.MaxFunc(loads, byChannels).Channels; most > least+1 {
				t.Fatalf("one has %d channels, another %d", most, least)
			}
		})
	}
}

func byChannels(a, b Load) int { return a.Channels - b.Channels }

func BenchmarkChoose(b *testing.B) {
	loads := serving(64)
	for b.Loop() {
		slot, _ := Choose(loads)
		loads[slot].Add(1, true)
	}
}
