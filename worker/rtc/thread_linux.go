package rtc

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loopNice is the niceness of the loop's thread: before the process's own control
// side and other services, behind what the system needs.
const loopNice = -10

// raisePriority lets the calling thread run before others. It needs CAP_SYS_NICE.
func raisePriority() error {
	if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), loopNice); err != nil {
		return fmt.Errorf("set niceness %d: %w", loopNice, err)
	}
	return nil
}

// threadID names the calling thread to other processes.
func threadID() int { return unix.Gettid() }

// nameThread names the calling thread in listings: at most 15 bytes.
func nameThread(name string) error {
	text, err := unix.BytePtrFromString(name)
	if err != nil {
		return fmt.Errorf("name a thread %q: %w", name, err)
	}
	if err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(text)), 0, 0, 0); err != nil {
		return fmt.Errorf("name a thread %q: %w", name, err)
	}
	return nil
}
