package ledgerfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspeak/sfu/internal/errs"
)

func TestBothSidesSeeOneHeader(t *testing.T) {
	f, err := Create(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	mem, err := Map(f)
	if err != nil {
		t.Fatal(err)
	}
	worker, err := HeaderOf(mem)
	if err != nil {
		t.Fatal(err)
	}
	view, err := OpenHeader(f)
	if err != nil {
		t.Fatal(err)
	}
	if view.Layout() != 0 || view.InHand() != 0 {
		t.Fatal("a new ledger is not empty")
	}
	worker.SetGeneration(3)
	worker.SetLayout(7)
	worker.SetLoopThread(42)
	worker.BeatLoop(100)
	worker.BeatControl(200)
	worker.SetInHand(Mark("r"))
	loop, control := view.Beats()
	if view.Layout() != 7 || view.Generation() != 3 || view.LoopThread() != 42 || loop != 100 || control != 200 || view.InHand() != Mark("r") {
		t.Fatalf("the other side sees %d %d %d %d %d %d", view.Layout(), view.Generation(), view.LoopThread(), loop, control, view.InHand())
	}
	if err := errors.Join(view.Close(), Unmap(mem)); err != nil {
		t.Fatal(err)
	}
}

func TestLedgerBelongsToThisUserAndKeepsItsSize(t *testing.T) {
	f, err := Create(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	for _, size := range []int64{0, 2 << 20} {
		if f.Truncate(size) == nil {
			t.Fatalf("resized to %d bytes", size)
		}
	}
}

func TestLedgerIsLeftOutOfCoreDumps(t *testing.T) {
	f, err := Create(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	mem, err := Map(f)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = Unmap(mem) }()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the system does not tell its mappings")
	}
	_, after, found := strings.Cut(string(smaps), "dspeak-ledger")
	_, flags, _ := strings.Cut(after, "VmFlags:")
	flags, _, _ = strings.Cut(flags, "\n")
	if !found || !strings.Contains(flags, " dd") {
		t.Fatalf("flags of the mapping: %q", flags)
	}
}

func TestOtherFilesAreNoLedgers(t *testing.T) {
	plain, err := os.Create(filepath.Join(t.TempDir(), "plain"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close() }()
	if err := plain.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	if _, err := Map(plain); !errors.Is(err, errs.ErrInvalid) {
		t.Fatalf("got %v", err)
	}
	if _, err := OpenHeader(plain); !errors.Is(err, errs.ErrInvalid) {
		t.Fatalf("got %v", err)
	}
	if _, err := Create(1); !errors.Is(err, errs.ErrInvalid) {
		t.Fatalf("got %v", err)
	}
}
