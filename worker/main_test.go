package worker

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/mediasock"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testLimit is far more than anything here takes.
const testLimit = 20 * time.Second

// running is a worker of this process, seen from its supervisor.
type running struct {
	parent *handoff.Conn
	socket string
	media  netip.AddrPort
	done   chan error // what Run returned
	stop   context.CancelFunc
}

// newRun starts Run, which waits for its slot.
func newRun(t *testing.T) *running {
	t.Helper()
	parent, file, err := handoff.Pair()
	if err != nil {
		t.Fatal(err)
	}
	child, err := handoff.FromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{parent: parent, socket: filepath.Join(t.TempDir(), "w.sock"), done: make(chan error, 1), stop: stop}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.done <- Run(ctx, Process{Conn: child, Log: log, Level: new(slog.LevelVar)})
		_ = child.Close()
	}()
	t.Cleanup(func() {
		stop()
		<-ended
		_ = parent.Close()
	})
	if m := r.receive(t); m.Hello == nil || m.Hello.Protocol != handoff.Protocol || m.Hello.PID != os.Getpid() {
		t.Fatalf("hello %+v", m)
	}
	return r
}

func (r *running) receive(t *testing.T) handoff.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	m, _, err := r.parent.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// assign gives the worker a slot with sockets on a free port, as changed by edit.
func (r *running) assign(t *testing.T, edit func(*handoff.Assign)) handoff.Message {
	t.Helper()
	pair, err := mediasock.Open(mediasock.Config{Family: mediasock.IPv4, Addr: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pair.Close() }()
	r.media = pair.Addr
	a := handoff.Assign{
		Slot: 4, Generation: 2, Socket: r.socket, LogLevel: "INFO", OrphanTimeout: int64(time.Minute),
		Announced: []string{pair.Addr.String()}, Files: []string{handoff.FileUDP4, handoff.FileTCP4},
	}
	files := []*os.File{pair.UDP, pair.TCP}
	if edit != nil {
		edit(&a)
		files = files[:len(a.Files)]
	}
	if err := r.parent.Send(handoff.Message{Assign: &a}, files...); err != nil {
		t.Fatal(err)
	}
	return r.receive(t)
}

// ended is what Run returned.
func (r *running) ended(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(testLimit):
		t.Fatal("the worker does not end")
		return nil
	}
}

// startWorker is a worker that serves, and a connection to it.
func startWorker(t *testing.T, edit func(*handoff.Assign)) (*running, *grpc.ClientConn) {
	t.Helper()
	r := newRun(t)
	if m := r.assign(t, edit); m.Ready == nil {
		t.Fatalf("not ready: %+v", m.Failed)
	}
	return r, dialWorker(t, r.socket)
}

func dialWorker(t *testing.T, socket string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// makeTransport makes a router and a transport in it.
func makeTransport(t *testing.T, client workerv1.WorkerServiceClient, router, transport string) *workerv1.CreateTransportResponse {
	t.Helper()
	if _, err := client.CreateRouter(t.Context(), &workerv1.CreateRouterRequest{RouterId: router}); err != nil {
		t.Fatal(err)
	}
	resp, err := client.CreateTransport(t.Context(), &workerv1.CreateTransportRequest{RouterId: router, TransportId: transport})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}
