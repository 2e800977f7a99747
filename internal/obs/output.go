package obs

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// sendPatience bounds a write to a socket whose reader stands still.
const sendPatience = time.Second

// Unblock makes writes to a descriptor of the process's output return at once, or after a
// second, when its reader stands still: those of libraries, and what the runtime says of a
// panic. Descriptors of regular files are left alone.
//
// The descriptor is replaced by a new opening of the same file, because the flag
// O_NONBLOCK belongs to the opening, which the process may share with a shell. An error
// leaves it as it was.
func Unblock(fd int) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("descriptor %d: %w", fd, err)
	}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFIFO, unix.S_IFCHR:
		again, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open descriptor %d again: %w", fd, err)
		}
		if err := errors.Join(unix.Dup3(again, fd, 0), unix.Close(again)); err != nil {
			return fmt.Errorf("replace descriptor %d: %w", fd, err)
		}
	case unix.S_IFSOCK: // it cannot be opened again
		patience := unix.NsecToTimeval(sendPatience.Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience); err != nil {
			return fmt.Errorf("bound writes to descriptor %d: %w", fd, err)
		}
	}
	return nil
}
