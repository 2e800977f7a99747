package table

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/cmd/loadgen/load"
	"github.com/dspeak/sfu/internal/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func valid() Config {
	return Config{
		Rows: []string{"1x200", "80x100"}, Sizes: []string{load.SizesConstant, load.SizesOpus}, Rounds: 2, Duration: time.Second,
	}
}

func TestRows(t *testing.T) {
	got, err := valid().rows()
	want := []row{{1, 200, "constant"}, {1, 200, "opus"}, {80, 100, "constant"}, {80, 100, "opus"}}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %v, %v, want %v", got, err, want)
	}
	for name, spoil := range map[string]func(*Config){
		"no rows":      func(c *Config) { c.Rows = nil },
		"no sizes":     func(c *Config) { c.Sizes = nil },
		"no number":    func(c *Config) { c.Rows = []string{"tenx5"} },
		"no listeners": func(c *Config) { c.Rows = []string{"10"} },
		"nobody":       func(c *Config) { c.Rows = []string{"0x5"} },
		"crowds":       func(c *Config) { c.Rows = []string{"1x5", "99999x5"} },
		"other sizes":  func(c *Config) { c.Sizes = []string{"big"} },
		"no time":      func(c *Config) { c.Duration = 0 },
		"many rounds":  func(c *Config) { c.Rounds = 5000 },
	} {
		t.Run(name, func(t *testing.T) {
			c := valid()
			spoil(&c)
			if _, err := Run(t.Context(), c); !errors.Is(err, errs.ErrInvalid) {
				t.Fatalf("got %v, want ErrInvalid", err)
			}
		})
	}
}

func TestLineSumsTheRoundsUp(t *testing.T) {
	l := Line{Report: load.Report{Expected: 300, Delivered: 298, Rounds: []load.Round{
		{Ratio: 1.2, Elapsed: time.Second}, {Ratio: 0.9, Elapsed: 2 * time.Second}, {Ratio: 1.4, Elapsed: time.Second},
	}}}
	l.sum()
	if l.Lost != 2 || l.RatioLow != 0.9 || l.RatioHigh != 1.4 || l.PacketsPerSecond != 74.5 {
		t.Fatalf("%+v", l)
	}
	l = Line{Report: load.Report{Expected: 1, Delivered: 2}}
	if l.sum(); l.Lost != 0 || l.PacketsPerSecond != 0 {
		t.Fatalf("%+v", l)
	}
}

func TestPaddingPerPacket(t *testing.T) {
	before := sentCounts{packets: 10, padding: 100}
	if got := (sentCounts{packets: 30, padding: 150}).paddingSince(before); got != 2.5 {
		t.Errorf("%v bytes", got)
	}
	if got := before.paddingSince(before); got != 0 {
		t.Errorf("%v bytes of no packets", got)
	}
}

func TestText(t *testing.T) {
	good := Line{
		Speakers: 20, Listeners: 100, Sizes: "opus", PacketsPerSecond: 99_950, Lost: 3, RatioLow: 0.8, RatioHigh: 1.1, PaddingPerPacket: 3.21,
		Report: load.Report{
			CPUPerForwarded: 2500 * time.Nanosecond, WorkerShare: 0.251, Floor: &load.FloorReport{CPUPerPacket: 2 * time.Microsecond, Ratio: 0.95},
			Latency: load.Latency{LatencyP50: 2 * time.Millisecond, LatencyP99: 5300 * time.Microsecond},
		},
	}
	marked, failed := good, Line{Speakers: 1, Listeners: 2, Sizes: "constant", Failed: "no server"}
	marked.Report.Invalid, marked.Report.Doubtful = []string{"drops"}, []string{"late", "busy"}
	var b strings.Builder
	table := Table{Machine: Machine{Processor: "P", CPUs: 2, Kernel: "6", Go: "go1"}, Lines: []Line{good, marked, failed}}
	if err := table.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	const figures = "20x100 opus 99950 3 2.50 µs 2.00 µs 0.95 (0.80-1.10) 2.00 ms 5.30 ms 25 % 3.2 B"
	for i, want := range []string{
		"2 CPUs of P, Linux 6, go1", "", "load sizes packets/s lost CPU/packet floor ratio (range) p50 p99 worker CPU padding",
		figures, figures + " INVALID: drops; DOUBTFUL: late, busy", "1x2 constant FAILED: no server", "",
	} {
		if got := strings.Join(strings.Fields(lines[i]), " "); got != want {
			t.Errorf("line %d is %q, want %q", i, got, want)
		}
	}
	if strings.Index(lines[3], "2.50 µs") != strings.Index(lines[4], "2.50 µs") {
		t.Errorf("columns are not aligned:\n%s", b.String())
	}
}

func TestOtherCPU(t *testing.T) {
	var one, some unix.CPUSet
	one.Set(0)
	some.Set(0)
	some.Set(2)
	some.Set(5)
	for _, c := range []struct {
		allowed      *unix.CPUSet
		worker, want int
	}{{&one, 0, load.NoCPU}, {&some, 0, 5}, {&some, 5, 2}, {&some, -1, load.NoCPU}} {
		if got := otherCPU(c.allowed, c.worker); got != c.want {
			t.Errorf("beside CPU %d: %d, want %d", c.worker, got, c.want)
		}
	}
}

func TestServerThatDoesNotStart(t *testing.T) {
	c := valid()
	c.Programs = t.TempDir()
	if _, err := Run(t.Context(), c); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "make build") {
		t.Errorf("without a program: %v", err)
	}
	script := "#!/bin/sh\necho the reason >&2\nexit 1\n"
	if err := os.WriteFile(filepath.Join(c.Programs, "supervisor"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), "the server ended: the reason") {
		t.Errorf("a program that ends: %v", err)
	}
}
