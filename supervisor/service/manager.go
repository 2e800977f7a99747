package service

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

// Manager is the service manager. The zero Manager is none: its methods do nothing.
// Any goroutine may use it.
type Manager struct {
	socket   string // NOTIFY_SOCKET
	watchdog time.Duration
}

// NewManager reads how systemd wants to be told from the environment, as
// sd_notify(3) and sd_watchdog_enabled(3) say.
func NewManager() (*Manager, error) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("watchdog of the service manager: %w: %w", err, errs.ErrInvalid)
	}
	return &Manager{socket: os.Getenv("NOTIFY_SOCKET"), watchdog: interval}, nil
}

// Ready says that the service serves; status is a line for operators.
func (m *Manager) Ready(status string) error {
	return m.notify(daemon.SdNotifyReady+"\nSTATUS="+line(status), nil)
}

// Reloading says that the service replaces itself; Ready follows.
func (m *Manager) Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("clock: %w", err)
	}
	micros := strconv.FormatInt(now.Nano()/int64(time.Microsecond), 10)
	return m.notify(daemon.SdNotifyReloading+"\nMONOTONIC_USEC="+micros, nil)
}

// Stopping says that the service ends on purpose.
func (m *Manager) Stopping() error { return m.notify(daemon.SdNotifyStopping, nil) }

// Store asks the manager to keep a file for the next process of the service, under a
// name without colons and control characters. The same name may be stored again: it
// then stands for several files.
func (m *Manager) Store(name string, f *os.File) error {
	return m.notify("FDSTORE=1\nFDPOLL=0\nFDNAME="+name, f)
}

// Forget ends the keeping of the files of that name.
func (m *Manager) Forget(name string) error {
	return m.notify("FDSTOREREMOVE=1\nFDNAME="+name, nil)
}

// Watch says that the service lives, twice as often as the manager wants, as long as
// alive says so, until ctx ends. Without a watchdog it returns at once.
func (m *Manager) Watch(ctx context.Context, alive func() bool) error {
	if m == nil || m.socket == "" || m.watchdog <= 0 {
		return nil
	}
	ticker := time.NewTicker(m.watchdog / 2)
	defer ticker.Stop()
	for {
		if alive() {
			if err := m.notify(daemon.SdNotifyWatchdog, nil); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// notify sends one message, with a file or without.
func (m *Manager) notify(state string, f *os.File) error {
	if m == nil || m.socket == "" {
		return nil
	}
	var rights []byte
	if f != nil {
		raw, err := f.SyscallConn()
		if err != nil {
			return fmt.Errorf("tell the service manager: %w", err)
		}
		if err := raw.Control(func(fd uintptr) { rights = unix.UnixRights(int(fd)) }); err != nil {
			return fmt.Errorf("tell the service manager: %w", err)
		}
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	patience := unix.NsecToTimeval(time.Second.Nanoseconds())
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience)
	if err == nil {
		err = unix.Sendmsg(fd, []byte(state), rights, &unix.SockaddrUnix{Name: m.socket}, unix.MSG_NOSIGNAL)
	}
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}

// line keeps a text from ending its assignment.
func line(text string) string { return strings.ReplaceAll(text, "\n", " ") }
