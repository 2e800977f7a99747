package rtc

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// releasePages gives the memory behind b back to the system; b then reads as zeros.
func releasePages(b []byte) error {
	if err := unix.Madvise(b, unix.MADV_DONTNEED); err != nil {
		return fmt.Errorf("release %d bytes: %w", len(b), err)
	}
	return nil
}
