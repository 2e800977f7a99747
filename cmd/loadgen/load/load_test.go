package load

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

// TestMain is also the floor's process, when a test starts this program as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == FloorCommand {
		if err := ServeFloor(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func valid() Config {
	return Config{
		URL: "ws://localhost:8425/socket", Channels: 2, Speakers: 3, Listeners: 4, Payload: 120,
		PacketTime: 20 * time.Millisecond, Duration: time.Second, JoinTimeout: time.Second, Prefix: "t", CPU: NoCPU,
	}
}

func TestConfigCountsUsersAndPairs(t *testing.T) {
	c := valid()
	if c.Users() != 14 || c.Pairs() != 24 {
		t.Fatalf("users %d, pairs %d, want 14 and 24", c.Users(), c.Pairs())
	}
	c.SpeakersListen = true
	if c.Pairs() != 36 {
		t.Fatalf("pairs %d with listening speakers, want 36", c.Pairs())
	}
	if c.packets() != 50 {
		t.Fatalf("packets %d, want 50", c.packets())
	}
}

func TestConfigRefusesNonsense(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"no scheme":         func(c *Config) { c.URL = "localhost:1" },
		"no channels":       func(c *Config) { c.Channels = 0 },
		"no users":          func(c *Config) { c.Speakers, c.Listeners = 0, 0 },
		"negative speakers": func(c *Config) { c.Speakers = -1 },
		"huge payload":      func(c *Config) { c.Payload = 5000 },
		"no packet time":    func(c *Config) { c.PacketTime = 0 },
		"unknown sizes":     func(c *Config) { c.Sizes = "big" },
		"unknown phases":    func(c *Config) { c.Phases = "moon" },
		"unknown CPU":       func(c *Config) { c.CPU = 4096 },
		"endless books":     func(c *Config) { c.Speakers, c.Listeners, c.Duration = 3000, 3000, time.Hour },
		"no duration":       func(c *Config) { c.Duration = 0 },
		"too many rounds":   func(c *Config) { c.Rounds = 51 },
		"floor of nothing":  func(c *Config) { c.Floor, c.PIDs, c.Speakers = true, []int{1}, 0 },
		"floor without pid": func(c *Config) { c.Floor = true },
		"floor of two pids": func(c *Config) { c.Floor, c.PIDs = true, []int{1, 2} },
	} {
		t.Run(name, func(t *testing.T) {
			c := valid()
			spoil(&c)
			if err := c.Validate(); !errors.Is(err, errs.ErrInvalid) {
				t.Fatalf("got %v, want ErrInvalid", err)
			}
		})
	}
	if err := valid().Validate(); err != nil {
		t.Fatal(err)
	}
}

func TestHistogramQuantiles(t *testing.T) {
	h := newHistogram()
	if h.quantile(0.5) != 0 {
		t.Fatal("quantile without samples")
	}
	for i := 1; i <= 100; i++ {
		h.add(time.Duration(i) * time.Millisecond)
	}
	h.add(-time.Second)
	for q, want := range map[float64]time.Duration{0.5: 50 * time.Millisecond, 0.99: 99 * time.Millisecond, 1: 100 * time.Millisecond} {
		if got := h.quantile(q); (got - want).Abs() > bucketWidth {
			t.Errorf("quantile %v is %s, want %s", q, got, want)
		}
	}
	h.add(time.Hour)
	if h.quantile(1) != 2*time.Second || h.highest != time.Hour {
		t.Fatalf("an outlier gives %s, highest %s", h.quantile(1), h.highest)
	}
}

func TestPairCountsEachPacketOnce(t *testing.T) {
	s := &speaker{firstTimestamp: math.MaxUint32 - 100, step: 960, sentAt: make([]atomic.Int64, 70)}
	p := newPair(s)
	for want := range 70 {
		i, ok := s.slot(s.firstTimestamp + uint32(want)*960)
		if !ok || i != int64(want) {
			t.Fatalf("packet %d has slot %d, %v", want, i, ok)
		}
		if !p.mark(int(i)) || p.mark(int(i)) {
			t.Fatalf("packet %d is not counted exactly once", i)
		}
	}
	if _, ok := s.slot(s.firstTimestamp + 1); ok {
		t.Error("a timestamp between two packets counts as one")
	}
}

func TestReadUsageOfThisProcess(t *testing.T) {
	u, err := readUsage([]int{os.Getpid()})
	if err != nil || u.cpu <= 0 || u.resident == 0 {
		t.Fatalf("usage %+v, %v", u, err)
	}
	if _, err := readUsage([]int{-1}); err == nil {
		t.Fatal("no error for a process that does not exist")
	}
}

func TestReadOwnUsage(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	thread := int64(unix.Gettid())
	u, err := readOwnUsage(thread, thread)
	if err != nil || u.all < u.engine || u.engine <= 0 || u.pacer < u.engine {
		t.Fatalf("usage %+v, %v", u, err)
	}
	if _, err := readOwnUsage(0, thread); err == nil {
		t.Fatal("no error for a thread that does not exist")
	}
}

func TestKernelDropsAreTold(t *testing.T) {
	to, err := openUDP(netip.MustParseAddrPort("127.0.0.1:0"), unix.SOCK_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(to) }()
	if err := unix.SetsockoptInt(to, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096); err != nil {
		t.Fatal(err)
	}
	address, err := localAddress(to)
	if err != nil {
		t.Fatal(err)
	}
	from, err := dialUDP(address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(from) }()
	if drops, err := socketDrops(to); err != nil || drops != 0 {
		t.Fatalf("%d drops of a new socket, %v", drops, err)
	}
	for range 200 {
		if _, err := unix.Write(from, make([]byte, 200)); err != nil {
			t.Fatal(err)
		}
	}
	held := 0
	for {
		if _, err := unix.Read(to, make([]byte, 300)); err != nil {
			break
		}
		held++
	}
	drops, err := socketDrops(to)
	if err != nil || drops == 0 || drops+uint64(held) != 200 {
		t.Fatalf("%d drops and %d datagrams of 200, %v", drops, held, err)
	}
}

func TestReportTellsWhatTheGeneratorFailedAt(t *testing.T) {
	for name, row := range map[string]struct {
		report            Report
		invalid, doubtful int
	}{
		"drops":        {Report{KernelDrops: 1}, 1, 0},
		"write errors": {Report{WriteErrors: 1}, 1, 0},
		"late":         {Report{PacerLateP99: 11 * time.Millisecond}, 0, 1},
		"late floor":   {Report{Rounds: []Round{{FloorLate: time.Second}}}, 0, 1},
		"saturated":    {Report{EngineShare: 0.97}, 0, 1},
		"good":         {Report{PacerLate: time.Hour, EngineShare: 0.5}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := row.report
			if r.judge(20 * time.Millisecond); len(r.Invalid) != row.invalid || len(r.Doubtful) != row.doubtful {
				t.Fatalf("invalid %q, doubtful %q", r.Invalid, r.Doubtful)
			}
			var text strings.Builder
			if err := r.WriteText(&text); err != nil || strings.Contains(text.String(), "INVALID") != (row.invalid > 0) {
				t.Fatalf("text %s, %v", text.String(), err)
			}
		})
	}
}

func TestJoinReport(t *testing.T) {
	got := joinReport(100, 2*time.Second, usage{cpu: time.Second, resident: 1000}, usage{cpu: 1500 * time.Millisecond, resident: 6000})
	want := JoinReport{
		Transports: 100, PerSecond: 50, PerCPUSecond: 200, WorkerCPU: 500 * time.Millisecond,
		ResidentBefore: 1000, ResidentAfter: 6000, BytesPerTransport: 50,
	}
	if got != want {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	if got := joinReport(0, time.Second, usage{}, usage{}); got.PerCPUSecond != 0 || got.BytesPerTransport != 0 {
		t.Fatalf("nothing gives %+v", got)
	}
}

func TestLatencies(t *testing.T) {
	h := newHistogram()
	for i := range 10_000 {
		h.add(time.Duration(i+1) * 10 * time.Microsecond)
	}
	want := Latency{50 * time.Millisecond, 90 * time.Millisecond, 99 * time.Millisecond, 99_900 * time.Microsecond, 100 * time.Millisecond}
	got := h.latencies()
	if (got.LatencyP90-want.LatencyP90).Abs() > bucketWidth || (got.LatencyP999-want.LatencyP999).Abs() > bucketWidth || got.LatencyMax != want.LatencyMax {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

func TestMediansOfRounds(t *testing.T) {
	var r Report
	r.sum([]Round{
		{Expected: 10, Delivered: 10, Latency: Latency{LatencyP50: 3, LatencyMax: 9}, WorkerCPU: 100, CPUPerForwarded: 10, Ratio: 2, FloorExpected: 10},
		{Expected: 10, Delivered: 9, Latency: Latency{LatencyP50: 1, LatencyMax: 20}, WorkerCPU: 300, CPUPerForwarded: 30, Ratio: 4, FloorExpected: 10},
		{Expected: 10, Delivered: 10, Latency: Latency{LatencyP50: 2, LatencyMax: 5}, WorkerCPU: 200, CPUPerForwarded: 20, Ratio: 3, FloorExpected: 10},
	})
	if r.Expected != 30 || r.Delivered != 29 || r.Complete() || r.WorkerCPU != 600 {
		t.Errorf("sums: %+v", r)
	}
	if r.LatencyP50 != 2 || r.LatencyMax != 20 || r.CPUPerForwarded != 20 || r.Floor.Ratio != 3 {
		t.Errorf("medians: %+v, floor %+v", r, r.Floor)
	}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil || strings.Count(text.String(), "\nround ") != 3 {
		t.Errorf("text %s, %v", text.String(), err)
	}
}
