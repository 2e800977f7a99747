package e2e

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
)

// maxUpgradeLoss bounds the packets that a stream loses by an upgrade: half a second.
const maxUpgradeLoss = 25

// installation is a folder with programs that a test replaces.
type installation struct{ supervisor, worker string }

func newInstallation(t *testing.T) *installation {
	t.Helper()
	dir, err := os.MkdirTemp(bin.dir, "installed-") //nolint:usetesting // processes are looked for there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	in := &installation{supervisor: filepath.Join(dir, "supervisor"), worker: filepath.Join(dir, "worker")}
	install(t, bin.supervisor, in.supervisor)
	install(t, bin.worker, in.worker)
	return in
}

// install puts a copy of a program in another's place, at once.
func install(t *testing.T, program, place string) {
	t.Helper()
	from, err := os.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = from.Close() }()
	to, err := os.OpenFile(place+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(to, from)
	if closing := to.Close(); err != nil || closing != nil {
		t.Fatal(err, closing)
	}
	if err := os.Rename(place+".new", place); err != nil {
		t.Fatal(err)
	}
}

func (s *server) self(t *testing.T) *adminv1.GetSupervisorResponse {
	t.Helper()
	got, err := s.admin(t).GetSupervisor(t.Context(), &adminv1.GetSupervisorRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestUpgrade replaces the programs of a server in the middle of a call, by good ones and
// by bad ones.
func TestUpgrade(t *testing.T) {
	in := newInstallation(t)
	mute := changedWorker(t, "../worker/run.go", "	assign, files, err := awaitAssign(ctx, p.Conn)\n",
		"	assign, files, err := awaitAssign(ctx, p.Conn)\n	if assign != nil {\n		select {}\n	}\n")
	foreign := changedWorker(t, "../worker/ledger/ledger.go", "const Layout = ", "const Layout = 1 + ")
	s := startServer(t, settings{program: in.supervisor})
	speaker, listener := s.enterPion(t, "ann", "new", pionOptions{}), s.enterPion(t, "bob", "new", pionOptions{})
	speaker.speak(t)
	listener.hear(t, speaker.producer)
	eventually(t, 20*time.Second, listener.hearing(20))
	changes := speaker.changes.Load() + listener.changes.Load()
	pid, call := s.cmd.Process.Pid, t // the sockets stay open between the cases

	for _, row := range []struct{ name, supervisor, worker, says string }{
		{"a supervisor that fails its check", "/bin/false", bin.worker, "fails its check"},
		{"a worker that does not start", bin.supervisor, "/bin/false", "is no worker"},
		{"a worker that does not serve", bin.supervisor, mute, "the former goes on"},
		{"a worker that cannot read the state", bin.supervisor, foreign, "cannot read the state of worker 0"},
	} {
		t.Run(row.name, func(t *testing.T) {
			install(t, row.supervisor, in.supervisor)
			install(t, row.worker, in.worker)
			before, told := s.busyFor(t, "new"), len(listener.all())
			out, err := s.dspeakctl(t, "upgrade")
			if err == nil || !strings.Contains(out, row.says) || strings.Count(out, "\n") != 1 {
				t.Errorf("%v: %s", err, out)
			}
			t.Log(out)
			eventually(t, 20*time.Second, listener.hearing(20))
			after := s.busyFor(t, "new")
			if after.GetEpoch() != before.GetEpoch() || s.self(t).GetReplacements() != 0 || len(listener.all()) != told {
				t.Errorf("the worker was %v, is %v; bob is told %d messages", before, after, len(listener.all())-told)
			}
			if row.worker != mute && after.GetPid() != before.GetPid() {
				t.Errorf("the worker was %v, is %v", before, after)
			}
		})
	}
	install(t, bin.supervisor, in.supervisor)
	install(t, bin.worker, in.worker)
	for i, row := range []struct {
		name    string
		upgrade func(t *testing.T)
	}{
		{"good programs", func(t *testing.T) {
			t.Helper()
			out, err := s.dspeakctl(t, "upgrade")
			if err != nil || !strings.Contains(out, "process "+strconv.Itoa(pid)+", replaced 1 times") {
				t.Fatalf("%v: %s", err, out)
			}
		}},
		{"a hang-up signal", func(t *testing.T) {
			t.Helper()
			if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			before, lost := s.busyFor(t, "new"), listener.missing()
			row.upgrade(t)
			eventually(t, startTimeout, func() error {
				got, err := s.admin(t).GetSupervisor(t.Context(), &adminv1.GetSupervisorRequest{})
				if err == nil && (int(got.GetReplacements()) != i+1 || got.GetRolledBack() != "" || int(got.GetPid()) != pid) {
					err = fmt.Errorf("supervisor: %v", got)
				}
				return err
			})
			speaker.comeBack(call, s)
			listener.comeBack(call, s)
			eventually(t, 20*time.Second, listener.hearing(20))
			if lost = listener.missing() - lost; lost > maxUpgradeLoss {
				t.Errorf("%d packets lost", lost)
			}
			t.Logf("%d packets lost", lost)
			after := s.busyFor(t, "new")
			if after.GetPid() == before.GetPid() || after.GetEpoch() != before.GetEpoch() {
				t.Errorf("the worker was %v, is %v", before, after)
			}
		})
	}
	if now := speaker.changes.Load() + listener.changes.Load(); now != changes {
		t.Errorf("connections changed their state %d times", now-changes)
	}
	t.Run("a supervisor that cannot be executed", func(t *testing.T) {
		vanishing := filepath.Join(t.TempDir(), "supervisor")
		if err := os.WriteFile(vanishing, []byte("#!/bin/sh\nrm \"$0\"\n"), 0o600); err != nil { // it passes the check
			t.Fatal(err)
		}
		install(t, vanishing, in.supervisor)
		before, lost := s.busyFor(t, "new"), listener.missing()
		out, err := s.dspeakctl(t, "upgrade")
		if err == nil || !strings.Contains(out, "went back to the former program") || !strings.Contains(out, "no such file") {
			t.Fatalf("%v: %s", err, out)
		}
		install(t, bin.supervisor, in.supervisor)
		speaker.comeBack(call, s)
		listener.comeBack(call, s)
		eventually(t, 20*time.Second, listener.hearing(20))
		if lost = listener.missing() - lost; lost > maxUpgradeLoss {
			t.Errorf("%d packets lost", lost)
		}
		if after := s.busyFor(t, "new"); after.GetEpoch() != before.GetEpoch() || int(s.self(t).GetPid()) != pid {
			t.Errorf("the worker was %v, is %v", before, after)
		}
	})
	t.Run("a drain before the new program", func(t *testing.T) {
		install(t, foreign, in.worker)
		before := s.busyFor(t, "new")
		if out, err := s.dspeakctl(t, "upgrade", "--drain-deadline", "1s"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		listener.expect(t, "transport-closed")
		speaker.expect(t, "transport-closed")
		next := s.enter(t, "ann", "new")
		next.capabilities(t)
		next.createTransport(t, "send")
		after := s.busyFor(t, "new")
		if after.GetEpoch() == before.GetEpoch() || after.GetPid() == before.GetPid() || after.GetDraining() {
			t.Errorf("the worker was %v, is %v", before, after)
		}
	})
}

// TestDrain empties a worker.
func TestDrain(t *testing.T) {
	s := startServer(t, settings{workers: 2})
	enter := func(user, channel string) (*socket, uint32) {
		c := s.enter(t, user, channel)
		c.capabilities(t)
		c.createTransport(t, "send")
		return c, s.busyFor(t, channel).GetSlot()
	}
	ann, drained := enter("ann", "first")
	drain := func(more ...string) string {
		t.Helper()
		out, err := s.dspeakctl(t, append([]string{"drain", strconv.Itoa(int(drained))}, more...)...)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return out
	}
	t.Log(drain())
	for _, channel := range []string{"second", "third", "fourth"} {
		if _, slot := enter("bob", channel); slot == drained {
			t.Errorf("channel %s is on the worker that is drained", channel)
		}
	}
	ann.createTransport(t, "recv") // present ones go on
	drain("--cancel")
	if _, slot := enter("cid", "fifth"); slot != drained {
		t.Error("the worker gets no channel after the drain")
	}
	drain("--deadline", "100ms")
	ann.expect(t, "transport-closed")
	ann.createTransport(t, "send")
	if slot := s.busyFor(t, "first").GetSlot(); slot == drained {
		t.Error("the channel is still on the worker that is drained")
	}
	if out, err := s.dspeakctl(t, "drain", "9"); err == nil || strings.Count(out, "\n") != 1 {
		t.Errorf("%v: %s", err, out)
	}
}
