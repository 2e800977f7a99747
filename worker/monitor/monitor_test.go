//go:build linux && (amd64 || arm64)

package monitor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestCalm: the monitor has the long slack, every other thread keeps its own, and the
// signal is as before.
func TestCalm(t *testing.T) {
	monitor, err := monitorThread()
	if err != nil {
		t.Fatal(err)
	}
	var before, after action
	if err := setAction(nil, &before); err != nil {
		t.Fatal(err)
	}
	if err := Calm(); err != nil {
		t.Fatal(err)
	}
	if err := setAction(nil, &after); err != nil {
		t.Fatal(err)
	}
	if before != after || after.handler == handlerAddress() {
		t.Errorf("the signal's action is %+v, was %+v", after, before)
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		got, err := os.ReadFile(filepath.Join("/proc", thread.Name(), "timerslack_ns"))
		if errors.Is(err, fs.ErrPermission) {
			t.Skip("the slack of other threads is for CAP_SYS_NICE")
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has ended
		}
		if err != nil {
			t.Fatal(err)
		}
		calm := strings.TrimSpace(string(got)) == strconv.Itoa(slack)
		if calm != (thread.Name() == strconv.Itoa(monitor)) {
			t.Errorf("thread %s has slack %s; the monitor is %d", thread.Name(), got, monitor)
		}
	}
}
