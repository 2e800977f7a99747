package worker

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// refuseHugePages keeps the kernel from giving this process 2 MiB where a page does: the
// runtime asks for that in tables of which it uses a few words.
func refuseHugePages() error {
	if err := unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("refuse huge pages: %w", err)
	}
	return nil
}
