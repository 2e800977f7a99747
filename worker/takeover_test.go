package worker

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/ledgerfile"
	"github.com/dspeak/sfu/internal/mediasock"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/worker/ledger"
)

// slot is what a supervisor holds of a slot.
type slot struct {
	media  *mediasock.Pair
	ledger *os.File
	dir    string
}

func newSlot(t *testing.T) *slot {
	t.Helper()
	media, err := mediasock.Open(mediasock.Config{Family: mediasock.IPv4, Addr: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	f, err := ledgerfile.Create(ledgerfile.Size)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = errors.Join(media.Close(), f.Close()) })
	return &slot{media: media, ledger: f, dir: t.TempDir()}
}

func (s *slot) path(name string) string { return filepath.Join(s.dir, name) }

// assign gives the slot to a worker and returns its answer.
func (s *slot) assign(t *testing.T, r *running, generation ident.Generation, edit func(*handoff.Assign)) handoff.Message {
	t.Helper()
	a := handoff.Assign{
		Slot: 4, Generation: generation, Epoch: 6, Takeover: generation > 1, Socket: s.path("w.sock"), AdoptSocket: s.path("w.handoff"),
		LogLevel: "INFO", OrphanTimeout: int64(time.Minute), Announced: []string{s.media.Addr.String()},
		Files: []string{handoff.FileUDP4, handoff.FileTCP4, handoff.FileLedger},
	}
	if edit != nil {
		edit(&a)
	}
	if err := r.parent.Send(handoff.Message{Assign: &a}, s.media.UDP, s.media.TCP, s.ledger); err != nil {
		t.Fatal(err)
	}
	return r.receive(t)
}

func dumpOf(t *testing.T, s *slot) *workerv1.WorkerDump {
	t.Helper()
	client := workerv1.NewWorkerServiceClient(dialWorker(t, s.path("w.sock")))
	resp, err := client.Dump(t.Context(), &workerv1.DumpRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetWorker()
}

// TestTakeover: a worker makes room, another one goes on with all that calls made.
func TestTakeover(t *testing.T) {
	s := newSlot(t)
	first := newRun(t)
	if m := s.assign(t, first, 1, nil); m.Ready == nil || m.Ready.Resumed != nil {
		t.Fatalf("told %+v", m)
	}
	client := workerv1.NewWorkerServiceClient(dialWorker(t, s.path("w.sock")))
	made := makeTransport(t, client, "r", "t")
	makeTransport(t, client, "poison", "t2")
	if _, err := client.SetRouterAppData(t.Context(), &workerv1.SetRouterAppDataRequest{RouterId: "r", AppData: []byte("channel")}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.SetTransportAppData(t.Context(), &workerv1.SetTransportAppDataRequest{TransportId: "t", AppData: []byte("user")}); err != nil {
		t.Fatal(err)
	}
	before := dumpOf(t, s)
	if err := first.parent.Send(handoff.Message{Retire: &handoff.Retire{}}); err != nil {
		t.Fatal(err)
	}
	if err := first.ended(t); err != nil {
		t.Fatal(err)
	}

	second := newRun(t)
	m := s.assign(t, second, 2, func(a *handoff.Assign) { a.SkipRouters = []uint64{ledgerfile.Mark("poison")} })
	if m.Ready == nil || m.Ready.Resumed == nil || m.Ready.Resumed.Routers != 1 || m.Ready.Resumed.Transports != 1 || m.Ready.Resumed.Duration <= 0 {
		t.Fatalf("told %+v %+v", m.Ready, m.Failed)
	}
	after := dumpOf(t, s)
	before.Generation = 2
	before.Routers = before.GetRouters()[1:] // ordered by name
	if !proto.Equal(before, after) || after.GetEpoch() != 6 || string(after.GetRouters()[0].GetAppData()) != "channel" {
		t.Fatalf("before %v\nafter %v", before, after)
	}
	client = workerv1.NewWorkerServiceClient(dialWorker(t, s.path("w.sock")))
	again, err := client.CreateTransport(t.Context(), &workerv1.CreateTransportRequest{RouterId: "r", TransportId: "t"})
	if err != nil || !proto.Equal(made, again) { // address, credentials, certificate
		t.Fatalf("the same call: %v, then %v, %v", made, again, err)
	}
	view, err := ledgerfile.OpenHeader(s.ledger)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = view.Close() }()
	if loop, control := view.Beats(); loop == 0 || control == 0 || view.LoopThread() == 0 || view.Generation() != 2 || view.Layout() != ledger.Layout {
		t.Fatalf("header: beats %d %d, thread %d, generation %d, layout %d", loop, control, view.LoopThread(), view.Generation(), view.Layout())
	}
	// A stop on purpose leaves nothing behind.
	second.stop()
	if err := second.ended(t); err != nil {
		t.Fatal(err)
	}
	third := newRun(t)
	if m := s.assign(t, third, 3, nil); m.Ready == nil || m.Ready.Resumed.Routers != 0 {
		t.Fatalf("told %+v", m)
	}
}

// TestTakeoverOfWhatCannotBeRead: the slot is not given up for good because of it.
func TestTakeoverOfWhatCannotBeRead(t *testing.T) {
	for name, row := range map[string]struct {
		edit  func(a *handoff.Assign, h *ledgerfile.Header)
		holds string
	}{
		"another layout": {func(_ *handoff.Assign, h *ledgerfile.Header) { h.SetLayout(ledger.Layout + 1) }, "layout"},
		"another epoch":  {func(a *handoff.Assign, _ *ledgerfile.Header) { a.Epoch++ }, "epoch"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSlot(t)
			first := newRun(t)
			s.assign(t, first, 1, nil)
			if err := first.parent.Send(handoff.Message{Retire: &handoff.Retire{}}); err != nil {
				t.Fatal(err)
			}
			_ = first.ended(t)
			view, err := ledgerfile.OpenHeader(s.ledger)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = view.Close() }()
			second := newRun(t)
			m := s.assign(t, second, 2, func(a *handoff.Assign) { row.edit(a, view.Header) })
			if m.Failed == nil || !strings.Contains(m.Failed.Reason, row.holds) {
				t.Fatalf("told %+v", m)
			}
			if err := second.ended(t); err == nil || errors.Is(err, errs.ErrInvalid) {
				t.Fatalf("ended with %v", err)
			}
		})
	}
}

func adopt(t *testing.T, s *slot) (*handoff.Conn, handoff.Message, []*os.File) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	conn, err := handoff.Dial(ctx, s.path("w.handoff"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.Send(handoff.Message{Adopt: &handoff.Adopt{Protocol: handoff.Protocol}}); err != nil {
		t.Fatal(err)
	}
	answer, got, err := conn.Receive(ctx)
	if err != nil || answer.Adopted == nil {
		t.Fatalf("answered %+v, %v", answer, err)
	}
	return conn, answer, got
}

// TestAdoption: after its supervisor a worker follows the next one, and one at a time.
func TestAdoption(t *testing.T) {
	s := newSlot(t)
	r := newRun(t)
	if m := s.assign(t, r, 1, nil); m.Ready == nil {
		t.Fatalf("told %+v", m)
	}
	if info, err := os.Stat(s.path("w.handoff")); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("socket %v, %v", info, err)
	}
	if _, m, _ := adopt(t, s); m.Adopted.Refused == "" {
		t.Fatal("adopted while the supervisor is there")
	}
	_ = r.parent.Close()
	conn, m, files := adopt(t, s)
	a := m.Adopted
	if a.Refused != "" || a.Slot != 4 || a.Generation != 1 || a.Epoch != 6 || a.PID != os.Getpid() || a.Layout != ledger.Layout || len(files) != 3 {
		t.Fatalf("adopted: %+v with %d files", a, len(files))
	}
	for i, want := range []*os.File{s.media.UDP, s.media.TCP, s.ledger} {
		mine, err := want.Stat()
		if err != nil {
			t.Fatal(err)
		}
		got, err := files[i].Stat()
		if err != nil || !os.SameFile(mine, got) {
			t.Fatalf("file %s is another one", a.Files[i])
		}
		_ = files[i].Close()
	}
	if _, m, _ := adopt(t, s); m.Adopted.Refused == "" {
		t.Fatal("adopted twice")
	}
	_ = conn.Close()
	conn, m, files = adopt(t, s)
	if m.Adopted.Refused != "" {
		t.Fatalf("the third supervisor is refused: %s", m.Adopted.Refused)
	}
	_ = closeAll(files)
	if err := conn.Send(handoff.Message{Retire: &handoff.Retire{}}); err != nil {
		t.Fatal(err)
	}
	if err := r.ended(t); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	if _, _, err := conn.Receive(ctx); !errors.Is(err, io.EOF) {
		t.Fatalf("the connection stays: %v", err)
	}
	if _, err := os.Stat(s.path("w.handoff")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the socket stays: %v", err)
	}
}

// TestAdoptionsLeaveNothing: after any number of supervisors a worker has the files that
// it had after the first.
func TestAdoptionsLeaveNothing(t *testing.T) {
	s := newSlot(t)
	r := newRun(t)
	s.assign(t, r, 1, nil)
	_ = r.parent.Close()
	one := func() int {
		conn, m, files := adopt(t, s)
		if m.Adopted.Refused != "" {
			t.Fatalf("refused: %s", m.Adopted.Refused)
		}
		_ = closeAll(files)
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		_ = conn.Close()
		return len(entries)
	}
	first := one()
	for range 5 {
		if now := one(); now > first {
			t.Fatalf("%d open files, %d after the first supervisor", now, first)
		}
	}
}

func TestOffersThatAreNone(t *testing.T) {
	s := newSlot(t)
	r := newRun(t)
	s.assign(t, r, 1, nil)
	_ = r.parent.Close()
	for _, m := range []handoff.Message{
		{Adopt: &handoff.Adopt{Protocol: handoff.Protocol + 1}},
		{Retire: &handoff.Retire{}},
	} {
		conn, err := handoff.Dial(t.Context(), s.path("w.handoff"))
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Send(m); err != nil {
			t.Fatal(err)
		}
		answer, _, err := conn.Receive(t.Context())
		if err != nil || answer.Adopted == nil || answer.Adopted.Refused == "" {
			t.Fatalf("answered %+v, %v", answer, err)
		}
		_ = conn.Close()
	}
	if _, m, files := adopt(t, s); m.Adopted.Refused != "" || len(files) != 3 {
		t.Fatalf("refused afterwards: %s", m.Adopted.Refused)
	} else {
		_ = closeAll(files)
	}
}
