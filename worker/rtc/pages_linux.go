package rtc

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// newPages returns n bytes outside of the collected heap, whose size sets the pace of
// collections: half of a small worker's would be a buffer that holds no pointers.
func newPages(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", n, err)
	}
	return b, nil
}

// freePages ends the use of what newPages returned.
func freePages(b []byte) { _ = unix.Munmap(b) } // it can fail for other memory only

// releasePages gives the memory behind b back to the system; b then reads as zeros.
func releasePages(b []byte) error {
	if err := unix.Madvise(b, unix.MADV_DONTNEED); err != nil {
		return fmt.Errorf("release %d bytes: %w", len(b), err)
	}
	return nil
}
