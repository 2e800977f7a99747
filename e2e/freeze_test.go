package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
)

// freezer is a cgroup of the test's own that can keep its processes from running.
type freezer struct {
	dir          string
	file         string // that freezes
	freeze, thaw string // what to write to it
	done, frozen string // the file that tells, and what it holds then
	outside      string // where its processes go at the end
}

// newFreezer makes a cgroup in the freezer of the older hierarchy, or of the unified one.
func newFreezer(t *testing.T, unified bool) *freezer {
	t.Helper()
	f := &freezer{outside: "/sys/fs/cgroup/freezer", file: "freezer.state", freeze: "FROZEN", thaw: "THAWED", done: "freezer.state", frozen: "FROZEN\n"}
	if unified {
		f = &freezer{outside: "/sys/fs/cgroup", file: "cgroup.freeze", freeze: "1", thaw: "0", done: "cgroup.events", frozen: "frozen 1"}
		if _, err := os.Stat("/sys/fs/cgroup/unified/cgroup.procs"); err == nil {
			f.outside = "/sys/fs/cgroup/unified"
		}
	}
	f.dir = filepath.Join(f.outside, "dspeak-e2e-"+strconv.Itoa(os.Getpid())+"-"+strconv.FormatInt(time.Now().UnixNano(), 36))
	if err := os.Mkdir(f.dir, 0o755); err != nil {
		t.Skipf("no cgroup can be made here: %v", err)
	}
	t.Cleanup(func() {
		err := waitFor(t.Context(), 5*time.Second, func() error { return os.Remove(f.dir) })
		if err := errors.Join(err, os.Remove(f.dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the test's cgroup stays: %v", err)
		}
	})
	if _, err := os.Stat(filepath.Join(f.dir, f.file)); err != nil {
		t.Skipf("no freezer in this cgroup hierarchy: %v", err)
	}
	return f
}

func (f *freezer) write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, file), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// hold freezes the processes, and let thaws them.
func (f *freezer) hold(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		f.write(t, "cgroup.procs", strconv.Itoa(pid))
	}
	t.Cleanup(func() { _ = os.WriteFile(filepath.Join(f.dir, f.file), []byte(f.thaw), 0o600) })
	f.write(t, f.file, f.freeze)
	eventually(t, answerTimeout, func() error {
		b, err := os.ReadFile(filepath.Join(f.dir, f.done))
		if err == nil && !strings.Contains(string(b), f.frozen) {
			err = fmt.Errorf("%s holds %q", f.done, b)
		}
		return err
	})
}

func (f *freezer) let(t *testing.T) { t.Helper(); f.write(t, f.file, f.thaw) }

// processes are the supervisor, first, and its children.
func (s *server) processes(t *testing.T) []int {
	t.Helper()
	supervisor := s.cmd.Process.Pid
	pids := []int{supervisor}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", supervisor))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for text := range strings.FieldsSeq(string(b)) {
			pid, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

func signalAll(t *testing.T, signal syscall.Signal, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, signal); err != nil {
			t.Fatal(err)
		}
	}
}

// frozenCall is a call on a server that is to be frozen, with a bystander's.
type frozenCall struct {
	*server
	users   []*pionUser
	workers []*adminv1.Worker
	told    map[*pionUser]int
}

// startFrozenCall starts a server whose heartbeats are as long as its freezes are not.
func startFrozenCall(t *testing.T) *frozenCall {
	t.Helper()
	c := &frozenCall{told: map[*pionUser]int{}}
	c.server = startServer(t, settings{workers: 2, env: map[string]string{
		"SFU_HEARTBEAT_INTERVAL_MS": "1000", "SFU_HEARTBEAT_MISS_THRESHOLD_MS": "8000",
	}})
	for _, name := range []string{"ann", "bob", "cid", "dan"} {
		c.users = append(c.users, c.enterPion(t, name, map[bool]string{true: "one", false: "two"}[name < "c"], pionOptions{patient: true}))
		c.keepAlive(t, c.users[len(c.users)-1].socket)
	}
	for i := 0; i < len(c.users); i += 2 {
		c.users[i].speak(t)
		c.users[i+1].hear(t, c.users[i].producer)
		eventually(t, 20*time.Second, c.users[i+1].hearing(50))
	}
	for _, u := range c.users {
		c.told[u] = len(c.unasked(u))
	}
	eventually(t, startTimeout, func() error {
		if n := len(c.processes(t)); n != 1+2+1 {
			return fmt.Errorf("%d processes, want a supervisor, two workers and a spare", n)
		}
		return nil
	})
	c.workers = c.listed(t)
	return c
}

// keepAlive pings as a client does.
func (c *frozenCall) keepAlive(t *testing.T, s *socket) {
	t.Helper()
	stop, stopped := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(stop); <-stopped })
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				_ = s.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second)) // its end is seen by the test
			}
		}
	}()
}

// unasked are the messages that a user got, but for heartbeats.
func (c *frozenCall) unasked(u *pionUser) []message {
	return slices.DeleteFunc(u.all(), func(m message) bool { return m.Type == "ping" })
}

func (c *frozenCall) listed(t *testing.T) []*adminv1.Worker {
	t.Helper()
	got, err := c.admin(t).ListWorkers(t.Context(), &adminv1.ListWorkersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return got.GetWorkers()
}

// goesOn fails the test unless everything is as before the freeze: the same processes, the
// same sockets, the same transports, and sound.
func (c *frozenCall) goesOn(t *testing.T) {
	t.Helper()
	for i := 1; i < len(c.users); i += 2 {
		eventually(t, 20*time.Second, c.users[i].hearing(100))
	}
	now := c.listed(t)
	if len(now) != len(c.workers) { // the quarantine's worker is one more
		t.Errorf("workers %v", now)
	}
	for i, w := range c.workers {
		if now[i].GetPid() != w.GetPid() || now[i].GetState() != "ready" || now[i].GetTakeovers() != 0 || now[i].GetRestarts() != 0 {
			t.Errorf("worker %v is now %v", w, now[i])
		}
	}
	for _, u := range c.users {
		select {
		case <-u.done:
			t.Errorf("the socket of %s has ended: %v", u.name, u.closeErr)
		default:
			u.must(t, "get-rtp-capabilities", nil, "rtp-capabilities")
			c.told[u]++
		}
		if all := c.unasked(u); len(all) != c.told[u] {
			t.Errorf("%s is told %d messages, the last %s", u.name, len(all)-c.told[u], all[len(all)-1].raw)
		}
	}
	for _, word := range []string{"worker crashed", "channel goes to quarantine", "hung", "heartbeat-timeout"} {
		if strings.Contains(c.log.String(), word) {
			t.Errorf("the log says %q", word)
		}
	}
}

// TestFreeze keeps the whole service from running, and lets it go on: nobody is to blame,
// and nobody loses anything.
func TestFreeze(t *testing.T) {
	short, long := 3*time.Second, 35*time.Second // longer than consent and heartbeats last
	if testing.Short() {
		long = short
	}
	for _, row := range []struct {
		name string
		took time.Duration
		hold func(t *testing.T, c *frozenCall, took time.Duration)
	}{
		{"by signals", short, holdBySignals(func(pids []int) [][]int { return [][]int{pids} })},
		{"by signals, the supervisor comes back first", short, holdBySignals(func(pids []int) [][]int { return [][]int{pids[:1], pids[1:]} })},
		{"by signals, the supervisor comes back last", short, holdBySignals(func(pids []int) [][]int { return [][]int{pids[1:], pids[:1]} })},
		{"by signals, one after another", short, holdBySignals(func(pids []int) (turns [][]int) {
			for _, pid := range pids {
				turns = append(turns, []int{pid})
			}
			return turns
		})},
		{"of the supervisor alone", short, func(t *testing.T, c *frozenCall, took time.Duration) {
			t.Helper()
			signalAll(t, syscall.SIGSTOP, c.processes(t)[0])
			time.Sleep(took)
			signalAll(t, syscall.SIGCONT, c.cmd.Process.Pid)
		}},
		{"in the freezer", long, holdInFreezer(false)},
		{"in the unified freezer", short, holdInFreezer(true)},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel() // it mostly waits
			c := startFrozenCall(t)
			for range 3 { // three times make a channel poison
				row.hold(t, c, row.took)
				c.goesOn(t)
				if row.took > short {
					break
				}
			}
		})
	}
}

// comeBackEvery is how long after one another groups of processes come back.
const comeBackEvery = time.Second

// holdBySignals stops all processes, and continues them group after group.
func holdBySignals(groups func(pids []int) [][]int) func(*testing.T, *frozenCall, time.Duration) {
	return func(t *testing.T, c *frozenCall, took time.Duration) {
		t.Helper()
		pids := c.processes(t)
		t.Cleanup(func() {
			for _, pid := range pids {
				_ = syscall.Kill(pid, syscall.SIGCONT) // the test may have failed
			}
		})
		signalAll(t, syscall.SIGSTOP, pids...)
		time.Sleep(took)
		for i, group := range groups(pids) {
			if i > 0 {
				time.Sleep(comeBackEvery)
			}
			signalAll(t, syscall.SIGCONT, group...)
		}
	}
}

func holdInFreezer(unified bool) func(*testing.T, *frozenCall, time.Duration) {
	return func(t *testing.T, c *frozenCall, took time.Duration) {
		t.Helper()
		f := newFreezer(t, unified)
		f.hold(t, c.processes(t))
		time.Sleep(took)
		f.let(t)
		for _, pid := range c.processes(t) { // the cgroup ends before them
			_ = os.WriteFile(filepath.Join(f.outside, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o600)
		}
	}
}
