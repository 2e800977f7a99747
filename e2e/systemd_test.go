package e2e

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestServiceManager runs the supervisor as a service of systemd: what the manager keeps
// is all that is left when the supervisor and its worker are killed together, and the
// call goes on from it.
func TestServiceManager(t *testing.T) {
	m := newManager(t)
	s := startServer(t, settings{manager: m, workers: 1})
	eventually(t, startTimeout, m.hears("READY=1", 0)) // which follows the first answer on the public port
	if m.count("READY=1") != 1 || m.count("STATUS=serves on") != 1 {
		t.Errorf("told at the start: %v", m.told)
	}
	eventually(t, answerTimeout, m.hears("WATCHDOG=1", 1))
	stored := []string{
		"http", "ledger-0-1", "tcp4-0", "tcp4-1", "tcp6-0", "tcp6-1", "udp4-0", "udp4-1", "udp6-0", "udp6-1",
	}
	if got := m.kept(); !slices.Equal(got, stored) {
		t.Fatalf("kept: %v, want %v", got, stored)
	}
	speaker, listener := s.enterPion(t, "ann", "kept", pionOptions{}), s.enterPion(t, "bob", "kept", pionOptions{})
	speaker.speak(t)
	listener.hear(t, speaker.producer)
	eventually(t, 20*time.Second, listener.hearing(20))
	changes := speaker.changes.Load() + listener.changes.Load()

	worker := s.busyFor(t, "kept")
	if err := syscall.Kill(s.cmd.Process.Pid, syscall.SIGSTOP); err != nil { // it must not replace the worker first
		t.Fatal(err)
	}
	if err := syscall.Kill(int(worker.GetPid()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.kill(t)
	eventually(t, answerTimeout, gone(int(worker.GetPid())))
	s.again(t)
	speaker.comeBack(t, s)
	listener.comeBack(t, s)
	eventually(t, 20*time.Second, listener.hearing(50))
	if now := speaker.changes.Load() + listener.changes.Load(); now != changes {
		t.Errorf("connections changed their state %d times", now-changes)
	}
	after := s.busyFor(t, "kept")
	if after.GetEpoch() != worker.GetEpoch() || after.GetGeneration() <= worker.GetGeneration() {
		t.Errorf("the worker was %v, is %v", worker, after)
	}
	eventually(t, startTimeout, m.hears("READY=1", 1))
	if got := m.kept(); !slices.Equal(got, stored) || m.count("READY=1") != 2 {
		t.Errorf("kept after the crash: %v", got)
	}
	late := s.enterPion(t, "dan", "kept", pionOptions{})
	late.hear(t, speaker.producer)
	eventually(t, 20*time.Second, late.hearing(20))

	t.Run("reload", func(t *testing.T) {
		pid := s.cmd.Process.Pid
		if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		eventually(t, startTimeout, m.hears("RELOADING=1", 0))
		eventually(t, startTimeout, m.hears("READY=1", 2))
		if m.count("MONOTONIC_USEC=") != 1 {
			t.Error("a reload without its time")
		}
		eventually(t, answerTimeout, m.hears("WATCHDOG=1", m.count("WATCHDOG=1")))
		speaker.comeBack(t, s)
		listener.comeBack(t, s)
		eventually(t, 20*time.Second, listener.hearing(20))
		if got := m.kept(); !slices.Equal(got, stored) {
			t.Errorf("kept after the reload: %v", got)
		}
	})
	s.stop(t)
	if m.count("STOPPING=1") != 1 {
		t.Error("a stop without notice")
	}
	if got := m.kept(); slices.Contains(got, "ledger-0-1") {
		t.Errorf("state of a call outlasts a planned stop: %v", got)
	}
}

// gone is a check for eventually: the process has ended.
func gone(pid int) func() error {
	return func() error {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			defer func() { _ = unix.Close(fd) }()
			if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); n == 0 && err == nil {
				return fmt.Errorf("process %d lives", pid)
			}
		}
		return nil
	}
}
