package load

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dspeak/sfu/internal/errs"
)

// startEngine runs an engine until the test ends; stop ends it earlier.
func startEngine(t *testing.T, cfg Config) (e *engine, stop func()) {
	t.Helper()
	e, err := newEngine(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return e, stop
}

// testFloor is a floor of this test program, which measures itself.
func testFloor(t *testing.T, cfg Config, e *engine) *floor {
	t.Helper()
	f, err := startFloor(t.Context(), floorOptions{
		cfg: cfg, command: []string{os.Args[0], FloorCommand}, bind: netip.MustParseAddr("127.0.0.1"), engine: e,
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func floorConfig() Config {
	c := valid()
	c.Floor, c.PIDs = true, []int{os.Getpid()}
	c.Rounds, c.Duration, c.PacketTime = 2, 100*time.Millisecond, 5*time.Millisecond
	return c
}

// expected is how many packets of the next window the hearers should get.
func expected(t *testing.T, r *rhythm, cfg Config) uint64 {
	t.Helper()
	return uint64(len(played(t, r, cfg.windowPackets())) * cfg.hearers())
}

func TestFloorSendsEachPacketToEachHearer(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"listeners":       func(*Config) {},
		"speakers listen": func(c *Config) { c.SpeakersListen = true },
		"pauses":          func(c *Config) { c.DTX, c.Sizes = true, SizesOpus },
		"many batches":    func(c *Config) { c.Listeners = 150 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := floorConfig()
			change(&cfg)
			e, stop := startEngine(t, cfg)
			f := testFloor(t, cfg, e)
			pacer, err := newPacer(cfg, nil, e.windows)
			if err != nil {
				t.Fatal(err)
			}
			c := conductor{cfg: cfg, engine: e, pacer: pacer, floor: f}
			rounds := make([]Round, 2)
			rhythm := newRhythm(cfg)
			for i := range rounds {
				e.windows.begin(int64(i) * 1000)
				rounds[i].Expected = expected(t, rhythm, cfg)
				if err := c.floorWindow(t.Context(), &rounds[i], 28.3); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.close(); err != nil {
				t.Fatal(err)
			}
			stop()
			var report Report
			for i := range rounds {
				rounds[i].fill(e.tallies[i])
				if r := rounds[i]; r.FloorDelivered != r.Expected || r.FloorCPU <= 0 || r.FloorLatencyP50 <= 0 {
					t.Errorf("round %d: %+v", i, r)
				}
			}
			if report.sum(rounds); report.Floor == nil || report.Floor.Delivered != report.Floor.Expected {
				t.Fatalf("report %+v", report.Floor)
			}
		})
	}
}

func TestFloorEndsWithItsContext(t *testing.T) {
	cfg := floorConfig()
	cfg.Duration = time.Hour
	e, _ := startEngine(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	f, err := startFloor(ctx, floorOptions{
		cfg: cfg, command: []string{os.Args[0], FloorCommand}, bind: netip.MustParseAddr("127.0.0.1"), engine: e,
	})
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := f.window(floorWindow{}); err == nil {
		t.Error("a window of half an hour ended")
	}
	if err := f.close(); err == nil {
		t.Error("no error of a process that was killed")
	}
}

func TestFloorRefusesWhatItCannotSend(t *testing.T) {
	cfg := floorConfig()
	e, _ := startEngine(t, cfg)
	f := testFloor(t, cfg, e)
	if _, err := f.window(floorWindow{Overhead: maxOverhead + 1}); !errors.Is(err, errs.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
}

func TestServeFloorRefusesNonsense(t *testing.T) {
	for name, in := range map[string]string{
		"no setup":     "",
		"no JSON":      "x",
		"empty config": "{}",
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := ServeFloor(strings.NewReader(in), &out); err == nil {
				t.Fatalf("no error, answered %s", out.String())
			}
		})
	}
}

func TestStartFloorReportsWhyItDied(t *testing.T) {
	cfg := floorConfig()
	e, _ := startEngine(t, cfg)
	cfg.Payload = -1 // the process refuses it
	_, err := startFloor(t.Context(), floorOptions{
		cfg: cfg, command: []string{os.Args[0], FloorCommand}, bind: netip.MustParseAddr("127.0.0.1"), engine: e,
	})
	if err == nil || !strings.Contains(err.Error(), "payload") {
		t.Fatalf("got %v, want the process's own words", err)
	}
}
