package process

import (
	"os"
	"testing"
	"time"
)

func TestPulse(t *testing.T) {
	const ms = int64(time.Millisecond)
	type look struct {
		now, beat, delay int64 // ms
		still            bool
	}
	for name, looks := range map[string][]look{
		"no beat yet":                 {{1000, 0, 0, false}, {9000, 0, 0, false}},
		"beats":                       {{1000, 990, 0, false}, {1050, 1040, 0, false}, {2000, 1990, 0, false}},
		"stops":                       {{1000, 1000, 0, false}, {1200, 1000, 0, false}, {1340, 1000, 0, false}, {1350, 1000, 0, true}},
		"has no CPU":                  {{1000, 1000, 0, false}, {1200, 1000, 100, false}, {1600, 1000, 500, false}, {9000, 1000, 7900, false}},
		"had no CPU, now runs around": {{1000, 1000, 0, false}, {1200, 1000, 100, false}, {1600, 1000, 500, false}, {1750, 1000, 500, true}},
		"comes back": {
			{1000, 1000, 0, false}, {1300, 1000, 0, false}, {1310, 1305, 0, false}, {1600, 1305, 0, false}, {1700, 1305, 0, true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var p pulse
			for i, l := range looks {
				if got := p.still(l.now*ms, l.beat*ms, func() int64 { return l.delay * ms }); got != l.still {
					t.Fatalf("look %d: %v", i, got)
				}
			}
		})
	}
}

func TestRunDelay(t *testing.T) {
	if runDelay(os.Getpid(), os.Getpid()) < 0 || runDelay(os.Getpid(), -1) != 0 {
		t.Fatal("the delay of a thread that is not there")
	}
}
