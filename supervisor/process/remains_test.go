package process

import (
	"log/slog"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/ledgerfile"
)

// left runs a pool and leaves its worker to whoever comes. It is killed at the test's
// end in any case.
func left(t *testing.T, mode string, cfg Config) WorkerInfo {
	t.Helper()
	p, stop := startPool(t, mode, cfg)
	next(t, p, EventReady)
	info := p.Workers()[0]
	t.Cleanup(func() { _ = syscall.Kill(info.PID, syscall.SIGKILL) })
	p.Leave()
	stop()
	return info
}

// adopt is what Adopt finds for a pool.
func adopt(t *testing.T, cfg Config) []*Remains {
	t.Helper()
	found, err := Adopt(t.Context(), cfg.RunDir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestNextSupervisorAdoptsTheWorker(t *testing.T) {
	cfg := testConfig(t)
	cfg.Spare = true
	first := left(t, modeGood, cfg)
	cfg.Remains = adopt(t, cfg)
	if len(cfg.Remains) != 1 || !cfg.Remains[0].Alive() || cfg.Remains[0].Ledger == nil {
		t.Fatalf("found %+v", cfg.Remains)
	}
	p, _ := startPool(t, modeGood, cfg)
	e := next(t, p, EventAdopted)
	if now := p.Workers()[0]; e.Generation != 1 || e.Epoch != 1 || now.PID != first.PID || now.State != StateReady {
		t.Fatalf("adopted %+v, %+v", e, now)
	}
	kill(t, first.PID, syscall.SIGKILL)
	if e := next(t, p, EventTakeover); e.Generation != 2 || e.Epoch != 1 || e.Resumed.Consumers != 5 {
		t.Fatalf("takeover %+v", e)
	}
}

func TestNextSupervisorGoesOnWithHeldState(t *testing.T) {
	cfg := testConfig(t)
	p, stop := startPool(t, modeGood, cfg)
	next(t, p, EventReady)
	pid := p.Workers()[0].PID
	p.Leave()
	stop()
	held := p.HeldFiles()
	// The workers of these tests write no ledger.
	mem, err := ledgerfile.Map(held["ledger-0-1"])
	if err != nil {
		t.Fatal(err)
	}
	header, err := ledgerfile.HeaderOf(mem)
	if err != nil {
		t.Fatal(err)
	}
	header.SetGeneration(1)
	header.SetLayout(1)
	if err := ledgerfile.Unmap(mem); err != nil {
		t.Fatal(err)
	}
	kill(t, pid, syscall.SIGKILL)
	eventually(t, "the worker ends", func() bool { return gone(pid) })
	adopted := adopt(t, cfg)
	if len(adopted) != 0 {
		t.Fatalf("adopted a dead worker: %+v", adopted[0])
	}
	if _, err := os.Stat(adoptPath(cfg.RunDir, "0")); err == nil {
		t.Fatal("a dead worker's socket stays")
	}
	take := func(name string) *os.File { return held[name] }
	cfg.Remains = FromHeld(adopted, []string{"http", "ledger-0-1"}, take)
	p, _ = startPool(t, modeGood, cfg)
	if e := next(t, p, EventAdopted); e.Generation != 2 || e.Epoch != 1 || e.Resumed.Consumers != 5 {
		t.Fatalf("went on with %+v", e)
	}
}

func TestWorkerThatDoesNotAnswerIsKilled(t *testing.T) {
	cfg := testConfig(t)
	info := left(t, modeDeaf, cfg)
	if found := adopt(t, cfg); len(found) != 0 {
		t.Fatalf("adopted %+v", found[0])
	}
	eventually(t, "the worker ends", func() bool { return gone(info.PID) })
}

func TestStrangeSocketsDoNotStopAnAdoption(t *testing.T) {
	cfg := testConfig(t)
	info := left(t, modeGood, cfg)
	dead, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: adoptPath(cfg.RunDir, "7"), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(adoptPath(cfg.RunDir, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	found := adopt(t, cfg)
	if len(found) != 1 || found[0].worker.pid() != info.PID {
		t.Fatalf("found %+v", found)
	}
	if err := found[0].End(); err != nil {
		t.Fatal(err)
	}
}

func TestNamesOfHeldFiles(t *testing.T) {
	for name, want := range map[string]struct {
		kind  string
		slot  ident.Slot
		epoch ident.Epoch
	}{
		"udp4-0":         {kind: handoff.FileUDP4},
		"tcp6-1023":      {handoff.FileTCP6, 1023, 0},
		"ledger-3-9":     {handoff.FileLedger, 3, 9},
		heldLedger(1, 2): {handoff.FileLedger, 1, 2},
		"udp6.7-3":       {"udp6.7", 3, 0},
		"udp6.-3":        {},
		"udp6.07-3":      {},
		"udp6.0-3":       {},
		"ledger.1-3-9":   {},
		"http":           {},
		"udp4":           {},
		"udp4-":          {},
		"udp4-1024":      {},
		"udp4-1-1":       {},
		"ledger-1":       {},
		"ledger-1-0":     {},
		"ledger-1-2-3":   {},
		"ledger--1-2":    {},
		"other-1":        {},
	} {
		kind, slot, epoch, ok := parseHeld(name)
		if ok != (want.kind != "") || (ok && (kind != want.kind || slot != want.slot || epoch != want.epoch)) {
			t.Errorf("%q: %q %d %d %v", name, kind, slot, epoch, ok)
		}
	}
}

// TestHeldFilesAreTakenOnce: copies of what a living worker sent, and states that were
// given up, are closed.
func TestHeldFilesAreTakenOnce(t *testing.T) {
	open := func() *os.File {
		f, err := ledgerfile.Create(ledgerfile.HeaderSize)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	files := map[string]*os.File{"ledger-0-1": open(), "udp4-0": open(), "udp4-1": open(), "ledger-1-1": open(), "http": open()}
	names := []string{"http", "ledger-0-1", "ledger-1-1", "udp4-0", "udp4-1"}
	alive := []*Remains{{Slot: 0, worker: &child{}}}
	all := FromHeld(alive, names, func(name string) *os.File { return files[name] })
	if len(all) != 2 || !slices.Equal(all[1].Sockets.Names, []string{"udp4"}) || all[1].Ledger != nil {
		t.Fatalf("remains %+v", all)
	}
	for name, closed := range map[string]bool{"ledger-0-1": true, "udp4-0": true, "ledger-1-1": true, "udp4-1": false, "http": false} {
		if err := files[name].Close(); (err != nil) != closed {
			t.Errorf("%s: closed %v", name, err != nil)
		}
	}
}
