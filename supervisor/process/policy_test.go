package process

import (
	"slices"
	"testing"
	"time"
)

// TestRestartPolicy plays deaths of one slot's processes: each comes after the pause and
// the time served.
func TestRestartPolicy(t *testing.T) {
	const ms = time.Millisecond
	type deaths struct {
		times  int
		served time.Duration
		start  time.Duration // what a process needs to its readiness, or to its failure
		quiet  time.Duration // before them
		pauses []time.Duration
	}
	zeros := func(n int) []time.Duration { return make([]time.Duration, n) }
	storm := []time.Duration{0, 0, 0, 0, 0, 200 * ms, 400 * ms, 800 * ms}
	for name, row := range map[string][]deaths{
		"killed every 3 s":                    {{12, 3 * time.Second, 0, 0, zeros(12)}},
		"killed every 1.5 s":                  {{100, 1500 * ms, 0, 0, zeros(100)}},
		"at the border, old enough":           {{100, youngAge, 0, 0, zeros(100)}},
		"at the border, young":                {{6, youngAge - 1, 0, 0, []time.Duration{0, 0, 0, 0, 0, 200 * ms}}},
		"never comes to serve":                {{8, 0, 0, 0, storm}},
		"dies at once":                        {{8, 1, 0, 0, storm}},
		"never comes to serve, and is slow":   {{20, 0, 5 * time.Second, 0, nil}},
		"young and old in turns":              slices.Repeat([]deaths{{1, youngAge / 2, 0, 0, zeros(1)}, {1, 3 * time.Second, 0, 0, zeros(1)}}, 10),
		"burst, one that works, burst":        {{5, 0, 0, 0, zeros(5)}, {1, youngAge, 0, 0, zeros(1)}, {6, 0, 0, 0, storm[:6]}},
		"storm, and then one that works":      {{8, 0, 0, 0, storm}, {12, 3 * time.Second, 0, 0, zeros(12)}},
		"storm, and a long quiet without any": {{8, 0, 0, 0, storm}, {1, 0, 0, 10 * failureHalfLife, zeros(1)}},
	} {
		t.Run(name, func(t *testing.T) {
			p := restartPolicy{burst: 5, random: func() float64 { return 0.5 }}
			now := time.Unix(1000, 0)
			for _, d := range row {
				now = now.Add(d.quiet)
				for i := range d.times {
					now = now.Add(d.start + d.served)
					pause := p.ended(now, d.served)
					// Halving the count meanwhile shortens the pauses a little.
					if d.pauses != nil && (pause > d.pauses[i] || pause < d.pauses[i]*3/4) {
						t.Fatalf("death %d: the pause is %v, want %v", i, pause, d.pauses[i])
					}
					if pause > backoffMax {
						t.Fatalf("death %d: the pause is %v", i, pause)
					}
					now = now.Add(pause)
				}
			}
		})
	}
}

func TestRestartPolicyStorm(t *testing.T) {
	p := restartPolicy{burst: 5, random: func() float64 { return 0.5 }}
	now := time.Unix(1000, 0)
	var got []time.Duration
	for range 12 {
		got = append(got, p.ended(now, 0))
	}
	if got[4] != 0 || got[5] != backoffBase || got[6] != 2*backoffBase || got[11] != backoffMax {
		t.Fatalf("pauses %v", got)
	}
	if was := p.failures; p.ended(now.Add(failureHalfLife), 0) != 2*backoffBase || p.failures != was/2+1 {
		t.Fatalf("a half-life later %v failures became %v", was, p.failures)
	}
	p = restartPolicy{burst: 5, random: func() float64 { return 1 }}
	for range 5 {
		p.ended(now, 0)
	}
	if d := p.ended(now, 0); d != backoffBase*5/4 {
		t.Fatalf("jitter gives %s", d)
	}
}
