package worker

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

const (
	oomFile = "/proc/self/oom_score_adj"
	// oomStep is how much sooner than its supervisor a worker is killed, in thousandths of
	// the memory.
	oomStep = 200
	oomMost = 1000
)

// volunteerForOOM makes the kernel kill this process rather than the supervisor when memory
// runs out: a worker is replaced at once, and it is the one whose memory grows with the
// calls. The value of a process may be raised without privileges. It was the supervisor's
// until now.
func volunteerForOOM() error {
	text, err := os.ReadFile(oomFile)
	if err != nil {
		return fmt.Errorf("read the OOM killer's preference: %w", err)
	}
	now, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("read the OOM killer's preference: %w", err)
	}
	if err := os.WriteFile(oomFile, []byte(strconv.Itoa(min(now+oomStep, oomMost))), 0); err != nil {
		return fmt.Errorf("raise the OOM killer's preference: %w", err)
	}
	return nil
}
