package worker

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/handoff"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
)

func TestSpareLeavesWithItsSupervisor(t *testing.T) {
	r := newRun(t)
	_ = r.parent.Close()
	if err := r.ended(t); err != nil {
		t.Fatal(err)
	}
}

func TestWorkerEndsOnRequest(t *testing.T) {
	r, conn := startWorker(t, nil)
	makeTransport(t, workerv1.NewWorkerServiceClient(conn), "r", "t")
	info, err := os.Stat(r.socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("socket %v, %v", info, err)
	}
	r.stop()
	if err := r.ended(t); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.socket); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the socket stays: %v", err)
	}
}

func TestSettingsThatCannotWork(t *testing.T) {
	for name, row := range map[string]struct {
		edit  func(*handoff.Assign)
		holds string
	}{
		"unknown log level":      {func(a *handoff.Assign) { a.LogLevel = "LOUD" }, "LOUD"},
		"unknown socket":         {func(a *handoff.Assign) { a.Files = []string{"sctp"} }, "sctp"},
		"no socket":              {func(a *handoff.Assign) { a.Files = nil }, "no media socket"},
		"UDP socket named TCP":   {func(a *handoff.Assign) { a.Files = []string{handoff.FileTCP4} }, "tcp4"},
		"host name as address":   {func(a *handoff.Assign) { a.Announced = []string{"localhost:1"} }, "localhost:1"},
		"padding as it pleases":  {func(a *handoff.Assign) { a.Padding = "sometimes" }, "padding"},
		"waiting for too long":   {func(a *handoff.Assign) { a.MaxWait = int64(time.Hour) }, "max wait"},
		"no directory of socket": {func(a *handoff.Assign) { a.Socket += "/x/y" }, "listen"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRun(t)
			m := r.assign(t, row.edit)
			if m.Failed == nil || !strings.Contains(m.Failed.Reason, row.holds) {
				t.Fatalf("told %+v", m)
			}
			err := r.ended(t)
			// What the machine refuses today it may allow tomorrow.
			final := row.holds != "listen"
			if err == nil || errors.Is(err, errs.ErrInvalid) != final {
				t.Fatalf("ended with %v", err)
			}
		})
	}
}

func TestFormerSocketIsReplacedAndNothingElse(t *testing.T) {
	r := newRun(t)
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: r.socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false) // as after kill -9
	_ = stale.Close()
	if m := r.assign(t, nil); m.Ready == nil {
		t.Fatalf("told %+v", m)
	}

	r = newRun(t)
	if err := os.WriteFile(r.socket, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if m := r.assign(t, nil); m.Failed == nil || !strings.Contains(m.Failed.Reason, r.socket) {
		t.Fatalf("told %+v", m)
	}
	if b, err := os.ReadFile(r.socket); err != nil || string(b) != "mine" {
		t.Fatalf("the file is %q, %v", b, err)
	}
}

func TestOrphan(t *testing.T) {
	const timeout = 50 * time.Millisecond
	r, conn := startWorker(t, func(a *handoff.Assign) { a.OrphanTimeout = int64(timeout) })
	client := workerv1.NewWorkerServiceClient(conn)
	makeTransport(t, client, "r", "t")
	makeTransport(t, client, "r2", "unused")
	digest := strings.TrimSuffix(strings.Repeat("AB:", 32), ":")
	_, err := client.ConnectTransport(t.Context(), &workerv1.ConnectTransportRequest{TransportId: "t", DtlsParameters: &workerv1.DtlsParameters{
		Role: new("client"), Fingerprints: []*workerv1.DtlsFingerprint{{Algorithm: "sha-256", Value: digest}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.parent.Send(handoff.Message{Ready: &handoff.Ready{}}); err != nil { // out of place: ignored
		t.Fatal(err)
	}
	_ = r.parent.Close()
	_ = conn.Close()
	select {
	case err := <-r.done:
		t.Fatalf("left its users: %v", err)
	case <-time.After(5 * timeout):
	}
	conn = dialWorker(t, r.socket)
	client = workerv1.NewWorkerServiceClient(conn)
	if _, err := client.CloseTransport(t.Context(), &workerv1.CloseTransportRequest{TransportId: "t"}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-r.done:
		t.Fatalf("left its client: %v", err)
	case <-time.After(5 * timeout):
	}
	_ = conn.Close()
	if err := r.ended(t); err != nil {
		t.Fatal(err)
	}
}

func TestUselessIsCountedFromTheLastUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		used := func(context.Context) bool { return time.Since(start) < 10*time.Minute }
		if !awaitUseless(t.Context(), time.Minute, used) {
			t.Fatal("gave up")
		}
		if d := time.Since(start); d < 11*time.Minute-10*time.Second || d > 11*time.Minute+10*time.Second {
			t.Fatalf("waited %s", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if awaitUseless(ctx, time.Minute, used) {
			t.Fatal("useless although it was stopped")
		}
	})
}

func TestLogPipeNeverBlocks(t *testing.T) {
	var fds [2]int
	if err := syscall.Pipe(fds[:]); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fds[0]) }()
	p, err := NewLogPipe(fds[1])
	if err != nil {
		t.Fatal(err)
	}
	line := []byte(strings.Repeat("x", 6000) + "\n") // longer than what is written whole
	for range 100 {
		if n, err := p.Write(line); n != len(line) || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
	}
	buf := make([]byte, 1<<20)
	n, err := syscall.Read(fds[0], buf)
	if err != nil || n > 100*len(line)/2 {
		t.Fatalf("read %d, %v", n, err)
	}
	_, _ = p.Write([]byte("hello\n"))
	_ = syscall.Close(fds[1])
	n, err = syscall.Read(fds[0], buf)
	if err != nil {
		t.Fatal(err)
	}
	text := string(buf[:n])
	if !strings.HasPrefix(text, "\n{") || !strings.HasSuffix(text, "}\nhello\n") || !strings.Contains(text, "dropped") {
		t.Fatalf("read %q", text)
	}
}
