//go:build linux && (amd64 || arm64)

package monitor

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

// slack is the monitor's timer slack in nanoseconds: it then wakes up 17 times a second.
// The handler has the same number.
const slack = 50_000_000

const (
	// calmSignal belongs to nobody else: the runtime acts on it for who asks only, and
	// no part of a worker does.
	calmSignal = syscall.Signal(64)
	// calmTimeout bounds the wait for the handler, calmPoll is how often it is looked at.
	calmTimeout = time.Second
	calmPoll    = 100 * time.Microsecond
)

// Flags of a signal's action (sigaction(2), signal(7)).
const (
	saOnStack  = 0x08000000 // goroutines' stacks are too small for a handler
	saRestart  = 0x10000000
	saRestorer = 0x04000000
)

// unanswered stands in answer until the handler has run.
const unanswered = 1

// answer is what prctl(2) said in the handler: 0, or an error's number below 0.
var answer int64 = unanswered //nolint:gochecknoglobals // a handler has no arguments of ours

// action is the kernel's struct sigaction.
type action struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

// handlerAddress and restorerAddress are where the kernel shall jump to.
func handlerAddress() uintptr
func restorerAddress() uintptr

// Calm makes the monitor thread of this process wake up 17 times a second at most. It
// returns when it has been done; errors leave the monitor as it was. It may be called
// once in a process, by any goroutine. While it runs, the process must not use signal 64.
func Calm() (err error) {
	thread, err := monitorThread()
	if err != nil {
		return err
	}
	own := action{handler: handlerAddress(), flags: saOnStack | saRestart | saRestorer, restorer: restorerAddress()}
	var former action
	if err := setAction(&own, &former); err != nil {
		return err
	}
	if err = unix.Tgkill(os.Getpid(), thread, calmSignal); err != nil {
		err = fmt.Errorf("signal the runtime's monitor: %w", err)
	} else {
		err = awaitAnswer()
	}
	if err != nil {
		return err // the handler stays: the signal may still arrive
	}
	return setAction(&former, nil)
}

// awaitAnswer waits until the handler has run.
func awaitAnswer() error {
	poll, limit := time.NewTicker(calmPoll), time.NewTimer(calmTimeout)
	defer poll.Stop()
	defer limit.Stop()
	for {
		switch said := atomic.LoadInt64(&answer); {
		case said == 0:
			return nil
		case said < 0:
			return fmt.Errorf("timer slack of the runtime's monitor: %w", syscall.Errno(-said))
		}
		select {
		case <-poll.C:
		case <-limit.C:
			return fmt.Errorf("no answer by the runtime's monitor: %w", errs.ErrUnavailable)
		}
	}
}

// monitorThread is the second thread of the process: the runtime makes it before it runs
// any Go code, and it never ends. The directory lists threads in the order of their
// making.
func monitorThread() (int, error) {
	dir, err := os.Open("/proc/self/task")
	if err != nil {
		return 0, fmt.Errorf("threads: %w", err)
	}
	names, err := dir.Readdirnames(2)
	_ = dir.Close() // nothing was written
	if err != nil || len(names) < 2 {
		return 0, fmt.Errorf("threads %q: %w", names, errs.ErrUnsupported)
	}
	thread, err := strconv.Atoi(names[1])
	if err != nil {
		return 0, fmt.Errorf("thread %q: %w", names[1], errs.ErrUnsupported)
	}
	return thread, nil
}

// setAction is rt_sigaction(2) of calmSignal.
func setAction(next, former *action) error {
	_, _, errno := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(calmSignal), uintptr(unsafe.Pointer(next)),
		uintptr(unsafe.Pointer(former)), unsafe.Sizeof(next.mask), 0, 0)
	runtime.KeepAlive(next)
	runtime.KeepAlive(former)
	if errno != 0 {
		return fmt.Errorf("action of signal %d: %w", calmSignal, errno)
	}
	return nil
}
