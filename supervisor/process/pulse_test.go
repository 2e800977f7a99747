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
		thread           int
	}
	for name, looks := range map[string][]look{
		"no beat yet":                 {{1000, 0, 0, false, 7}, {9000, 0, 0, false, 7}},
		"beats":                       {{1000, 990, 0, false, 7}, {1050, 1040, 0, false, 7}, {2000, 1990, 0, false, 7}},
		"stops":                       {{1000, 1000, 0, false, 7}, {1200, 1000, 0, false, 7}, {1340, 1000, 0, false, 7}, {1350, 1000, 0, true, 7}},
		"has no CPU":                  {{1000, 1000, 0, false, 7}, {1200, 1000, 100, false, 7}, {1600, 1000, 500, false, 7}, {9000, 1000, 7900, false, 7}},
		"had no CPU, now runs around": {{1000, 1000, 0, false, 7}, {1200, 1000, 100, false, 7}, {1600, 1000, 500, false, 7}, {1750, 1000, 500, true, 7}},
		"rests without CPU": {
			{1000, 1000, 90, false, 0},
			{1200, 1000, 5000, false, 0},
			{1400, 1000, 5200, false, 0},
			{1450, 1000, 60, false, 7},
			{1500, 1000, 110, false, 7},
			{1600, 1000, 110, true, 7},
		},
		"comes back": {
			{1000, 1000, 0, false, 7}, {1300, 1000, 0, false, 7}, {1310, 1305, 0, false, 7}, {1600, 1305, 0, false, 7}, {1700, 1305, 0, true, 7},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var p pulse
			for i, l := range looks {
				if got := p.still(l.now*ms, l.beat*ms, l.thread, func(int) int64 { return l.delay * ms }); got != l.still {
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
	if one, all := runDelay(os.Getpid(), os.Getpid()), runDelay(os.Getpid(), 0); all < one {
		t.Fatalf("all threads together waited for %d ns, one of them for %d", all, one)
	}
}
