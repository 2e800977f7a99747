package load

import (
	"context"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// longestSleep bounds one sleep of the pacer, so that it sees the end of its context.
const longestSleep = 100 * time.Millisecond

// clock tells CLOCK_MONOTONIC, which is the same in all processes of a machine,
// without a system call. Any goroutine may use it.
type clock struct {
	base int64
	at   time.Time
}

func newClock() (clock, error) {
	var now unix.Timespec
	at := time.Now()
	err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return clock{base: now.Nano(), at: at}, err
}

// now is in nanoseconds.
func (c clock) now() int64 { return c.base + int64(time.Since(c.at)) }

// sleep blocks the calling thread until CLOCK_MONOTONIC shows due, or until a
// signal comes. It is a raw system call: the Go runtime's timers are late by its
// own scheduling. The goroutine must be locked to its thread, and GOMAXPROCS must
// leave a processor for the others.
func sleep(due int64) {
	spec := unix.NsecToTimespec(due)
	_, _, _ = syscall.RawSyscall6(unix.SYS_CLOCK_NANOSLEEP, unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME,
		uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
}

// sleepUntil returns when CLOCK_MONOTONIC shows due or the context has ended, and
// how late it is then.
func (c clock) sleepUntil(ctx context.Context, due int64) (late time.Duration, err error) {
	now := c.now()
	for now < due && ctx.Err() == nil {
		sleep(min(due, now+int64(longestSleep)))
		now = c.now()
	}
	return time.Duration(now - due), ctx.Err()
}
