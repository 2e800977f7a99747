package obs_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/obs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// pipe is a pipe whose write end blocks, as an inherited one does.
func pipe(t *testing.T) (read *os.File, write int) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // so that Close ends a Read
		t.Fatal(err)
	}
	read = os.NewFile(uintptr(fds[0]), "read")
	t.Cleanup(func() { _ = read.Close(); _ = unix.Close(fds[1]) })
	return read, fds[1]
}

// socketPair is a stream socket as systemd's journal gives it.
func socketPair(t *testing.T) (read *os.File, write int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		t.Fatal(err)
	}
	read = os.NewFile(uintptr(fds[0]), "read")
	t.Cleanup(func() { _ = read.Close(); _ = unix.Close(fds[1]) })
	return read, fds[1]
}

// fill writes until nothing fits any more.
func fill(t *testing.T, fd int) {
	t.Helper()
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{4096, 1} {
		for {
			if _, err := unix.Write(fd, bytes.Repeat([]byte("x"), size)); errors.Is(err, unix.EAGAIN) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := unix.Write(fd, []byte("\n")); !errors.Is(err, unix.EAGAIN) {
		t.Fatal("not full")
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
}

// promptly fails the test when the function waits for somebody.
func promptly(t *testing.T, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { do(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("a writer waits")
	}
}

// TestStalledReader is told everything in order once it reads again, and how many lines
// are missing.
func TestStalledReader(t *testing.T) {
	const lines = 40_000
	for name, open := range map[string]func(*testing.T) (*os.File, int){
		"a pipe": pipe,
		"a pipe that does not block": func(t *testing.T) (*os.File, int) {
			t.Helper()
			read, write := pipe(t)
			if err := unix.SetNonblock(write, true); err != nil {
				t.Fatal(err)
			}
			return read, write
		},
		"a socket": socketPair,
	} {
		t.Run(name, func(t *testing.T) {
			read, write := open(t)
			sink := obs.NewSink(write)
			log, err := sink.NewLogger(slog.LevelInfo, "text")
			if err != nil {
				t.Fatal(err)
			}
			promptly(t, func() {
				for i := range lines {
					log.Info("line", slog.Int("number", i))
				}
			})
			seen, dropped, last := 0, 0, -1
			in := bufio.NewScanner(read)
			for seen+dropped < lines && in.Scan() {
				text := in.Text()
				if _, count, found := strings.Cut(text, `msg="log lines dropped" lines=`); found {
					n, err := strconv.Atoi(count)
					if err != nil {
						t.Fatal(err)
					}
					dropped += n
					continue
				}
				_, number, found := strings.Cut(text, "msg=line number=")
				n, err := strconv.Atoi(number)
				if !found || err != nil || n <= last {
					t.Fatalf("after line %d: %q", last, text)
				}
				seen, last = seen+1, n
			}
			if seen+dropped != lines || dropped == 0 || seen < 1000 {
				t.Errorf("%d lines came, %d were said to be dropped, of %d", seen, dropped, lines)
			}
			log.Info("after", slog.Bool("all", true))
			if !in.Scan() || !strings.Contains(in.Text(), "msg=after") {
				t.Errorf("then %q", in.Text())
			}
			sink.Close(patience)
		})
	}
}

// TestDroppedIsToldInTheLogsFormat also when no further line comes.
func TestDroppedIsToldInTheLogsFormat(t *testing.T) {
	read, write := pipe(t)
	fill(t, write)
	sink := obs.NewSink(write)
	log, err := sink.NewLogger(slog.LevelInfo, "json")
	if err != nil {
		t.Fatal(err)
	}
	promptly(t, func() {
		for range 1000 {
			log.Info("line", slog.String("text", strings.Repeat("y", 4000)))
		}
	})
	in := bufio.NewReader(read)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, `"msg":"log lines dropped","lines":`) {
			break
		}
	}
	sink.Close(patience)
}

// TestFailedWrites keep the lines until writing works again.
func TestFailedWrites(t *testing.T) {
	t.Run("a reader that comes back", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "fifo")
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		both, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		write, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(write) }()
		_ = both.Close() // nobody reads
		sink := obs.NewSink(write)
		_, _ = fmt.Fprintln(sink, "one")
		_, _ = fmt.Fprintln(sink, "two")
		promptly(t, func() { sink.Flush(patience) }) // returns with the first failure
		read, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = read.Close() }()
		sink.Flush(patience)
		got := make([]byte, 8)
		if _, err := io.ReadFull(read, got); err != nil || string(got) != "one\ntwo\n" {
			t.Errorf("read %q, %v", got, err)
		}
		sink.Close(patience)
	})
	t.Run("a full disk", func(t *testing.T) {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skip("NOT TESTED: no /dev/full")
		}
		defer func() { _ = full.Close() }()
		read, write := pipe(t)
		fd, err := unix.FcntlInt(full.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(fd) }()
		sink := obs.NewSink(fd)
		promptly(t, func() {
			for i := range 20_000 {
				_, _ = fmt.Fprintf(sink, "line %d %s\n", i, strings.Repeat("z", 80))
			}
			sink.Flush(patience)
		})
		if err := unix.Dup3(write, fd, unix.O_CLOEXEC); err != nil { // there is room again
			t.Fatal(err)
		}
		in, seen, dropped := bufio.NewScanner(read), 0, 0
		for seen+dropped < 20_000 && in.Scan() {
			var n int
			if _, err := fmt.Sscanf(in.Text(), "log lines dropped lines=%d", &n); err == nil {
				dropped += n
			} else {
				seen++
			}
		}
		if seen+dropped != 20_000 || dropped == 0 {
			t.Errorf("%d lines and %d dropped", seen, dropped)
		}
		sink.Close(patience)
	})
}

// TestEndIsBounded ends a process whose output nobody takes.
func TestEndIsBounded(t *testing.T) {
	t.Run("closed", func(t *testing.T) {
		read, write := pipe(t)
		_ = read.Close()
		sink := obs.NewSink(write)
		_, _ = fmt.Fprintln(sink, "lost")
		promptly(t, func() { sink.Close(time.Hour) }) // it fails at once
	})
	t.Run("stalled", func(t *testing.T) {
		read, write := pipe(t)
		fill(t, write)
		sink := obs.NewSink(write)
		_, _ = fmt.Fprintln(sink, "late")
		promptly(t, func() { sink.Flush(time.Millisecond); sink.Close(time.Millisecond) })
		go func() { _, _ = io.Copy(io.Discard, read) }() // lets the goroutine go
	})
	t.Run("after the end", func(t *testing.T) {
		_, write := pipe(t)
		sink := obs.NewSink(write)
		sink.Close(patience)
		promptly(t, func() { _, _ = fmt.Fprintln(sink, "nobody"); sink.Flush(patience); sink.Close(patience) })
	})
}

// TestManyWriters lose and tear nothing.
func TestManyWriters(t *testing.T) {
	const writers, each = 16, 200
	read, write := pipe(t)
	sink := obs.NewSink(write)
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				_, _ = fmt.Fprintf(sink, "%d %d %s\n", w, i, strings.Repeat("a", i))
			}
		})
	}
	in, next := bufio.NewScanner(read), [writers]int{}
	for range writers * each {
		var w, i int
		if !in.Scan() {
			t.Fatal(in.Err())
		}
		if _, err := fmt.Sscanf(in.Text(), "%d %d", &w, &i); err != nil || next[w] != i || strings.Count(in.Text(), "a") != i {
			t.Fatalf("got %q, %v", in.Text(), err)
		}
		next[w]++
	}
	all.Wait()
	sink.Close(patience)
}

// TestUnblock leaves another opening of the same file alone.
func TestUnblock(t *testing.T) {
	for name, open := range map[string]func(*testing.T) (*os.File, int){"a pipe": pipe, "a socket": socketPair} {
		t.Run(name, func(t *testing.T) {
			_, shared := open(t)
			fd, err := unix.FcntlInt(uintptr(shared), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = unix.Close(fd) }()
			if err := obs.Unblock(fd); err != nil {
				t.Fatal(err)
			}
			untilFull := func() {
				for {
					if _, err := unix.Write(fd, make([]byte, 4096)); errors.Is(err, unix.EAGAIN) {
						return
					} else if err != nil {
						t.Error(err)
						return
					}
				}
			}
			promptly(t, untilFull)
			flags, err := unix.FcntlInt(uintptr(shared), unix.F_GETFL, 0)
			if err != nil || flags&unix.O_NONBLOCK != 0 {
				t.Errorf("flags %x, %v", flags, err)
			}
		})
	}
	t.Run("a file goes on where it is", func(t *testing.T) {
		f, err := os.Create(filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		_, _ = f.WriteString("one\n")
		if err := obs.Unblock(int(f.Fd())); err != nil {
			t.Fatal(err)
		}
		_, _ = f.WriteString("two\n")
		if got, err := os.ReadFile(f.Name()); err != nil || string(got) != "one\ntwo\n" {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		if err := obs.Unblock(-1); err == nil {
			t.Error("no descriptor is unblocked")
		}
	})
}
