package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
)

// TestLogReader runs a server whose log nobody reads: users join, a worker that is killed
// is replaced, again and again, and the server stops in time.
func TestLogReader(t *testing.T) {
	for _, row := range []struct {
		name string
		open func(*testing.T) *reader
	}{
		{"stalls", stalledPipe},
		{"stalls, and the pipe does not block", func(t *testing.T) *reader {
			t.Helper()
			r := stalledPipe(t)
			if err := unix.SetNonblock(int(r.file.Fd()), true); err != nil {
				t.Fatal(err)
			}
			return r
		}},
		{"stalls at the journal's socket", stalledSocket},
		{"stalls at a terminal", func(t *testing.T) *reader { t.Helper(); return terminal(t, false) }},
		{"closes", func(t *testing.T) *reader {
			t.Helper()
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			return &reader{file: write, leave: func() { _ = read.Close() }}
		}},
		{"hangs its terminal up", func(t *testing.T) *reader { t.Helper(); return terminal(t, true) }},
		{"is a full disk", func(t *testing.T) *reader {
			t.Helper()
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				t.Skip("NOT TESTED: no /dev/full")
			}
			return &reader{file: full}
		}},
		{"is not there", func(t *testing.T) *reader {
			t.Helper()
			return &reader{program: script(t, 0o755, "#!/bin/sh\nexec "+bin.supervisor+` "$@" >&- 2>&-`+"\n")}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel() // it mostly waits
			r := row.open(t)
			if r.file != nil {
				defer func() { _ = r.file.Close() }()
			}
			s := startServer(t, settings{stderr: r.file, program: r.program, env: map[string]string{"DSPEAK_LOG_LEVEL": "debug"}})
			if r.leave != nil {
				r.leave()
			}
			for round := range 3 {
				channel := "room-" + strconv.Itoa(round)
				s.enter(t, "ann", channel).request(t, "get-rtp-capabilities", nil)
				s.enter(t, "bob", channel).request(t, "get-rtp-capabilities", nil)
				s.replacesKilled(t)
			}
			if out, err := s.dspeakctl(t, "upgrade"); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			eventually(t, startTimeout, func() error { return s.healthy(t.Context()) })
			s.enter(t, "ann", "after").request(t, "get-rtp-capabilities", nil)
			s.replacesKilled(t)
		})
	}
}

// reader is who does not read the log.
type reader struct {
	file    *os.File // the server's end
	program string   // in place of the supervisor
	leave   func()   // is called once the server serves
}

// fill writes to a descriptor until nothing fits any more.
func fill(t *testing.T, fd int) {
	t.Helper()
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{4096, 1} {
		for full := false; !full; {
			_, err := unix.Write(fd, []byte(strings.Repeat("\n", size)))
			if full = errors.Is(err, unix.EAGAIN); err != nil && !full {
				t.Fatal(err)
			}
		}
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
}

func stalledPipe(t *testing.T) *reader {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = read.Close() })
	fill(t, int(write.Fd()))
	return &reader{file: write}
}

func stalledSocket(t *testing.T) *reader {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fds[0]) })
	fill(t, fds[1])
	return &reader{file: os.NewFile(uintptr(fds[1]), "socket")}
}

// terminal is a pseudo terminal. It hangs up once the server serves, or is full.
func terminal(t *testing.T, hangUp bool) *reader {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("NOT TESTED: no terminals")
	}
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("NOT TESTED: no terminals")
	}
	if hangUp {
		return &reader{file: slave, leave: func() { _ = master.Close() }}
	}
	t.Cleanup(func() { _ = master.Close() })
	fill(t, int(slave.Fd()))
	return &reader{file: slave}
}

// replacesKilled kills the worker of slot 0 and waits until another serves it.
func (s *server) replacesKilled(t *testing.T) {
	t.Helper()
	former := s.firstWorker(t)
	if err := syscall.Kill(int(former.GetPid()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, startTimeout, func() error {
		now, err := s.findWorker(t, 0)
		if err == nil && now.GetPid() == former.GetPid() {
			err = fmt.Errorf("the former process is still there: %v: %w", now, errEnded)
		}
		return err
	})
}

// firstWorker waits until a worker serves slot 0.
func (s *server) firstWorker(t *testing.T) *adminv1.Worker {
	t.Helper()
	var found *adminv1.Worker
	eventually(t, startTimeout, func() (err error) {
		found, err = s.findWorker(t, 0)
		return err
	})
	return found
}

func (s *server) findWorker(t *testing.T, slot uint32) (*adminv1.Worker, error) {
	t.Helper()
	client, hangUp := s.operator(t)
	defer hangUp()
	list, err := client.ListWorkers(t.Context(), &adminv1.ListWorkersRequest{})
	if err != nil {
		return nil, err
	}
	for _, w := range list.GetWorkers() {
		if w.GetSlot() == slot && w.GetState() == "ready" {
			return w, nil
		}
	}
	return nil, fmt.Errorf("slot %d is not served: %v: %w", slot, list, errEnded)
}

// TestLostLinesAreTold once somebody reads the log again, and the log goes on.
func TestLostLinesAreTold(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = read.Close() }()
	s := startServer(t, settings{stderr: write, env: map[string]string{"DSPEAK_LOG_LEVEL": "debug"}})
	_ = write.Close()
	const sockets, messages = 6, 3000
	for i := range sockets {
		c := s.enter(t, "user-"+strconv.Itoa(i), "noise")
		for range messages {
			c.sendText(t, `{"type":"consume","data":{"producerId":"none"}}`) // a refusal is logged
		}
		c.request(t, "get-rtp-capabilities", nil) // those before were handled
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		in := bufio.NewScanner(read)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			lines <- in.Text()
		}
	}()
	limit := time.After(startTimeout)
	seen, dropped := 0, 0
	for dropped == 0 {
		select {
		case line := <-lines:
			seen++
			if _, count, found := strings.Cut(line, `msg="log lines dropped" lines=`); found {
				if dropped, err = strconv.Atoi(count); err != nil {
					t.Fatal(err)
				}
			}
		case <-limit:
			t.Fatalf("read %d lines, none tells of dropped ones", seen)
		}
	}
	if total := seen + dropped; total < sockets*messages {
		t.Errorf("%d lines were read and %d dropped, of more than %d", seen, dropped, sockets*messages)
	}
	t.Logf("%d lines read, %d dropped", seen, dropped)
	s.replacesKilled(t)
	for crashed := false; !crashed; {
		select {
		case line := <-lines:
			crashed = strings.Contains(line, "worker crashed")
		case <-limit:
			t.Fatal("the log does not go on")
		}
	}
	go func() {
		for range lines { // the rest, until the end
		}
	}()
	s.stop(t)
	_, _ = io.Copy(io.Discard, read)
}
