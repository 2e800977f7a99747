package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// manager stands in for systemd: it is told by datagrams, sd_notify(3), keeps files, and
// passes them to the next process of the service, sd_listen_fds(3).
type manager struct {
	path string

	mu    sync.Mutex
	told  []string   // assignments, in order; guarded by mu
	files []*os.File // with their names; guarded by mu
	given []*os.File // to commands; guarded by mu
	fault error      // guarded by mu
}

func newManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{path: filepath.Join(shortFolder(t), "notify")}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: m.path})
	if err != nil {
		t.Fatal(err)
	}
	var reader sync.WaitGroup
	reader.Go(func() { m.receive(conn) })
	t.Cleanup(func() {
		_ = conn.Close()
		reader.Wait()
		m.forget("")
		for _, f := range m.given {
			_ = f.Close()
		}
		if m.fault != nil {
			t.Error(m.fault)
		}
	})
	return m
}

func (m *manager) receive(conn *net.UnixConn) {
	text, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(16*4))
	for {
		n, control, _, _, err := conn.ReadMsgUnix(text, rights)
		if err != nil {
			return
		}
		lines := strings.Split(strings.TrimSpace(string(text[:n])), "\n")
		fds, err := descriptors(rights[:control])
		m.mu.Lock()
		m.told = append(m.told, lines...)
		switch {
		case err != nil || (len(fds) > 0) != slices.Contains(lines, "FDSTORE=1"):
			m.fault = fmt.Errorf("%v with %d files: %w", lines, len(fds), err)
		case slices.Contains(lines, "FDSTOREREMOVE=1"):
			m.forgetLocked(assigned(lines, "FDNAME"))
		}
		for _, fd := range fds {
			m.keepLocked(fd, assigned(lines, "FDNAME"))
		}
		m.mu.Unlock()
	}
}

func descriptors(rights []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) == 0 {
		return nil, err
	}
	return unix.ParseUnixRights(&messages[0])
}

func assigned(lines []string, name string) string {
	for _, line := range lines {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			return value
		}
	}
	return ""
}

// keepLocked keeps a file, once: systemd compares them, too.
func (m *manager) keepLocked(fd int, name string) {
	// A file of the Go runtime's poller would block once it is passed on.
	flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	_ = unix.SetNonblock(fd, false)
	f := os.NewFile(uintptr(fd), name)
	if flags&unix.O_NONBLOCK != 0 {
		_ = unix.SetNonblock(fd, true)
	}
	stat, err := f.Stat()
	if err == nil && !slices.ContainsFunc(m.files, func(other *os.File) bool {
		known, err := other.Stat()
		return err == nil && os.SameFile(stat, known)
	}) {
		m.files = append(m.files, f)
		return
	}
	_ = f.Close()
}

// forget closes the files of a name; empty: all.
func (m *manager) forget(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked(name)
}

func (m *manager) forgetLocked(name string) {
	m.files = slices.DeleteFunc(m.files, func(f *os.File) bool {
		if name != "" && f.Name() != name {
			return false
		}
		_ = f.Close()
		return true
	})
}

// kept are the names of the files.
func (m *manager) kept() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := make([]string, len(m.files))
	for i, f := range m.files {
		names[i] = f.Name()
	}
	slices.Sort(names)
	return names
}

// count is how often something was told that begins so.
func (m *manager) count(prefix string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, line := range m.told {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

// hears is a check for eventually: something was told once more than before.
func (m *manager) hears(prefix string, before int) func() error {
	return func() error {
		if m.count(prefix) > before {
			return nil
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		return fmt.Errorf("the service manager is not told %s: %w: %v", prefix, errMissing, m.told)
	}
}

// command starts a service as systemd does: the files are passed with the process's own
// id.
func (m *manager) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	var files []*os.File // of their own: a message of the former process may still close those that are kept
	for _, f := range m.files {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			m.fault = err
			continue
		}
		names = append(names, f.Name())
		files = append(files, os.NewFile(uintptr(fd), f.Name()))
	}
	m.given = append(m.given, files...)
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, program}, args...)...)
	cmd.ExtraFiles = files
	cmd.Env = []string{"NOTIFY_SOCKET=" + m.path, "WATCHDOG_USEC=1000000"}
	if len(names) > 0 {
		cmd.Env = append(cmd.Env, "LISTEN_FDS="+strconv.Itoa(len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	return cmd
}
