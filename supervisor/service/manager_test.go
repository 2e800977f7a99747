package service

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// listen serves the notify socket as systemd does, and names it in the environment.
func listen(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return conn
}

// told reads one message and the descriptors with it.
func told(t *testing.T, conn *net.UnixConn) (string, []int) {
	t.Helper()
	b, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(16))
	n, oobn, _, _, err := conn.ReadMsgUnix(b, oob)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		t.Fatal(err)
	}
	var fds []int
	for i := range messages {
		more, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, more...)
	}
	return string(b[:n]), fds
}

func TestManagerIsTold(t *testing.T) {
	conn := listen(t)
	m, err := NewManager()
	if err != nil {
		t.Fatal(err)
	}
	for want, tell := range map[string]func() error{
		"READY=1\nSTATUS=two lines":          func() error { return m.Ready("two\nlines") },
		"STOPPING=1":                         m.Stopping,
		"RELOADING=1\nMONOTONIC_USEC=":       m.Reloading,
		"FDSTOREREMOVE=1\nFDNAME=ledger-0-1": func() error { return m.Forget("ledger-0-1") },
	} {
		if err := tell(); err != nil {
			t.Fatal(err)
		}
		if got, fds := told(t, conn); !strings.HasPrefix(got, want) || len(fds) != 0 {
			t.Errorf("told %q with %d files, want %q", got, len(fds), want)
		}
	}
}

func TestManagerKeepsAFile(t *testing.T) {
	conn := listen(t)
	m, err := NewManager()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "kept"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("state"); err != nil {
		t.Fatal(err)
	}
	if err := m.Store("ledger-0-1", f); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	got, fds := told(t, conn)
	if got != "FDSTORE=1\nFDPOLL=0\nFDNAME=ledger-0-1" || len(fds) != 1 {
		t.Fatalf("told %q with %d files", got, len(fds))
	}
	kept := os.NewFile(uintptr(fds[0]), "kept")
	defer func() { _ = kept.Close() }()
	b := make([]byte, 5)
	if _, err := kept.ReadAt(b, 0); err != nil || string(b) != "state" {
		t.Fatalf("kept %q, %v", b, err)
	}
}

func TestWatchdogIsFedWhileAlive(t *testing.T) {
	conn := listen(t)
	t.Setenv("WATCHDOG_USEC", "2000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	m, err := NewManager()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan struct{})
	done := make(chan error, 1)
	answers := []bool{false, true, false}
	go func() {
		done <- m.Watch(ctx, func() bool {
			if len(answers) == 0 {
				cancel()
				return false
			}
			answer := answers[0]
			if answers = answers[1:]; len(answers) == 0 {
				close(asked)
			}
			return answer
		})
	}()
	select {
	case <-asked:
	case err := <-done:
		t.Fatalf("ended with %v", err)
	}
	if got, _ := told(t, conn); got != "WATCHDOG=1" {
		t.Fatalf("told %q", got)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if m.Ready("") == nil {
		t.Fatal("nobody listens, and nobody learns of it")
	}
}

func TestWithoutAManagerNothingIsTold(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	m, err := NewManager()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*Manager{m, nil} {
		if m.Ready("") != nil || m.Stopping() != nil || m.Store("x", nil) != nil || m.Watch(t.Context(), nil) != nil {
			t.Fatal("told")
		}
	}
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("WATCHDOG_USEC", "often")
	if _, err := NewManager(); err == nil {
		t.Fatal("a malformed interval was taken")
	}
}
