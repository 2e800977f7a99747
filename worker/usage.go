package worker

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/worker/rtc"
)

// minUsageInterval keeps a busy reader from making the CPU share a noise.
const minUsageInterval = 200 * time.Millisecond

// usageReader tells what this process uses. Any goroutine may read.
type usageReader struct {
	loop *rtc.Loop

	mu    sync.Mutex
	at    time.Time     // guarded by mu: of the last reading that set share
	cpu   time.Duration // guarded by mu
	share float64       // guarded by mu
}

func newUsageReader(loop *rtc.Loop) *usageReader {
	return &usageReader{loop: loop, at: time.Now(), cpu: cpuTime()}
}

func (u *usageReader) read(ctx context.Context) (*workerv1.ResourceUsage, error) {
	counts, err := u.loop.Usage(ctx)
	if err != nil {
		return nil, fmt.Errorf("count objects: %w", err)
	}
	share, cpu := u.cpuShare()
	return &workerv1.ResourceUsage{
		CpuShare: share, CpuTimeUs: uint64(cpu.Microseconds()), //nolint:gosec // never negative
		ResidentBytes: residentBytes(), FileDescriptors: fileDescriptors(),
		Goroutines: count(runtime.NumGoroutine()),
		Routers:    count(counts.Routers), Transports: count(counts.Transports),
		Producers: count(counts.Producers), Consumers: count(counts.Consumers),
		LoopAgeMs:       count(int(time.Since(u.loop.LastTurn()).Milliseconds())),
		PacketsReceived: counts.PacketsReceived, PacketsSent: counts.PacketsSent, PacketsDropped: counts.PacketsDropped,
		PacketsLate:  counts.PacketsLate,
		PaddingBytes: counts.PaddingBytes, Sockets: fromSocketStats(counts.Sockets),
	}, nil
}

// count converts a small number for the wire.
func count(n int) uint32 { return uint32(max(n, 0)) } //nolint:gosec // far below 2^32

func (u *usageReader) cpuShare() (share float64, cpu time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	cpu = cpuTime()
	if elapsed := now.Sub(u.at); elapsed >= minUsageInterval {
		u.share = float64(cpu-u.cpu) / float64(elapsed)
		u.at, u.cpu = now, cpu
	}
	return u.share, cpu
}

// cpuTime is the user and system time of this process.
func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0 // cannot happen with valid arguments
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// residentBytes is the resident set size, 0 where the system does not tell.
func residentBytes() uint64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize()) //nolint:gosec // a page size is positive
}

// fileDescriptors is the number of open descriptors, 0 where the system does not tell.
func fileDescriptors() uint32 {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return count(len(entries) - 1) // the directory itself is one
}
