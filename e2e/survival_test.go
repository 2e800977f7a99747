package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
)

// missing is how many of the packets sent so far, up to the newest that came, did not
// come to the listener.
func (u *pionUser) missing() uint64 {
	lowest := ^uint64(0)
	for range 10 { // a packet may be booked between the two
		last := u.last.Load()
		lowest = min(lowest, last-u.received.Load())
	}
	return lowest
}

// dump is what a worker has, asked for directly.
func (s *server) dump(t *testing.T, slot int) *workerv1.WorkerDump {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+filepath.Join(s.runDir, fmt.Sprintf("worker-%d.sock", slot)), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	got, err := workerv1.NewWorkerServiceClient(conn).Dump(t.Context(), &workerv1.DumpRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return got.GetWorker()
}

// transports counts the transports of all channels on a worker.
func (s *server) transports(t *testing.T, slot int) (n int) {
	t.Helper()
	for _, router := range s.dump(t, slot).GetRouters() {
		n += len(router.GetTransports())
	}
	return n
}

// TestSupervisorDeath kills the supervisor in the middle of a call: the media flows on,
// and the next one takes up where it was.
func TestSupervisorDeath(t *testing.T) {
	main := newMainServer(t)
	s := startServer(t, settings{main: main, workers: 2})
	speaker, listener := s.enterPion(t, "ann", "life", pionOptions{}), s.enterPion(t, "bob", "life", pionOptions{})
	speaker.speak(t)
	listener.hear(t, speaker.producer)
	eventually(t, 20*time.Second, listener.hearing(20))
	gone := s.enterPion(t, "cid", "life", pionOptions{})
	gone.createTransport(t, "send")
	worker := s.busyFor(t, "life")
	slot := int(worker.GetSlot())
	lost := listener.missing()
	changes := speaker.changes.Load() + listener.changes.Load()

	t.Run("a second supervisor is refused", func(t *testing.T) { secondRefused(t, s) })

	main.forget()
	deadHandoff(t, filepath.Join(s.runDir, "worker-7.handoff"))
	s.kill(t)
	started := time.Now()
	s.again(t)
	t.Logf("serves again after %v", time.Since(started))
	if _, err := os.Stat(filepath.Join(s.runDir, "worker-7.handoff")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a dead worker's socket: %v", err)
	}
	eventually(t, answerTimeout, main.got("the channel's users", func(m message) bool {
		return m.Type == "channel_presence_sync" && m.ChannelID == "life" && slices.Equal(slices.Sorted(slices.Values(m.UserIDs)), []string{"ann", "bob", "cid"})
	}))
	speaker.comeBack(t, s)
	listener.comeBack(t, s)
	late := s.enterPion(t, "dan", "life", pionOptions{})
	late.hear(t, speaker.producer)
	eventually(t, 20*time.Second, late.hearing(20))
	eventually(t, 20*time.Second, listener.hearing(20))
	if now := listener.missing(); now != lost {
		t.Errorf("%d packets lost", now-lost)
	}
	if now := s.busyFor(t, "life"); now.GetPid() != worker.GetPid() || now.GetEpoch() != worker.GetEpoch() {
		t.Errorf("the worker was %v, is %v", worker, now)
	}
	t.Run("who does not come back is removed", func(t *testing.T) {
		eventually(t, grace+answerTimeout, func() error {
			if n := s.transports(t, slot); n != 3 {
				return fmt.Errorf("%d transports on the worker, want ann's, bob's and dan's", n)
			}
			return nil
		})
		eventually(t, answerTimeout, speaker.inRoom(1, "ann", "bob", "dan"))
		eventually(t, answerTimeout, main.got("leave of cid", func(m message) bool {
			return m.Type == "media_presence" && m.Event == "leave" && m.UserID == "cid"
		}))
	})
	t.Run("another worker is stopped", func(t *testing.T) { stoppedWorker(t, s, 1-slot) })
	speaker.comeBack(t, s)
	listener.comeBack(t, s)
	eventually(t, 20*time.Second, listener.hearing(20))
	if now := listener.missing(); now != lost {
		t.Errorf("%d packets lost", now-lost)
	}
	if now := speaker.changes.Load() + listener.changes.Load(); now != changes {
		t.Errorf("connections changed their state %d times", now-changes)
	}
}

// secondRefused starts another supervisor on the server's run directory.
func secondRefused(t *testing.T, s *server) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), bin.supervisor)
	cmd.Env = environment(map[string]string{
		"PORT": strconv.Itoa(freePort(t)), "SFU_PORT": strconv.Itoa(freeMediaPort(t, 4)), "DSPEAK_RUN_DIR": s.runDir, "DSPEAK_WORKERS": "1",
	})
	out, err := cmd.CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err == nil || len(lines) != 1 || !strings.Contains(lines[0], "used by another supervisor") {
		t.Errorf("a second supervisor: %v\n%s", err, out)
	}
}

// deadHandoff makes a socket that nobody listens on.
func deadHandoff(t *testing.T, path string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 1), unix.Close(fd)); err != nil {
		t.Fatal(err)
	}
}

// stoppedWorker has a supervisor find a worker that stands still: it is replaced, and
// does not keep the others waiting.
func stoppedWorker(t *testing.T, s *server, slot int) {
	t.Helper()
	got, err := s.admin(t).ListWorkers(t.Context(), &adminv1.ListWorkersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	pid := int(got.GetWorkers()[slot].GetPid())
	for _, each := range []int{s.cmd.Process.Pid, pid} { // the supervisor must not replace the worker
		if err := syscall.Kill(each, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	s.kill(t)
	started := time.Now()
	s.again(t)
	t.Logf("serves again after %v", time.Since(started))
	eventually(t, startTimeout, func() error {
		now, err := s.admin(t).ListWorkers(t.Context(), &adminv1.ListWorkersRequest{})
		if err != nil {
			return err
		}
		if w := now.GetWorkers()[slot]; w.GetState() != "ready" || int(w.GetPid()) == pid {
			return fmt.Errorf("worker %v", w)
		}
		return gone(pid)()
	})
}
