package process

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/ledgerfile"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
)

// childMode is the environment variable that makes the test binary a worker.
const childMode = "TEST_WORKER_MODE"

// The ways in which a worker of the tests behaves.
const (
	modeGood          = "good"
	modeSilent        = "silent"         // exits before it says hello
	modeMute          = "mute"           // never says hello
	modeKilled        = "killed"         // is killed before it says hello, as without memory
	modeFaults        = "faults"         // ends of a fault of its own before it says hello
	modeIdle          = "idle"           // never becomes ready
	modeStrange       = "strange"        // speaks another protocol
	modeBadSettings   = "bad settings"   // cannot use what it is assigned
	modeBadInherit    = "bad descriptor" // cannot even say hello
	modePanic         = "panic"          // panics when it serves
	modeStubborn      = "stubborn"       // ignores SIGTERM
	modeStopped       = "loop stopped"   // answers, but is not well
	modeEcho          = "echo"           // answers on its media socket
	modeEventsAndGaps = "events"         // tells one event in each stream
	modeNoTakeover    = "no takeover"    // ends when it is to go on with state
	modeRefusesState  = "refuses state"  // says that it cannot go on with any
	modeNew           = "new"            // as good, but another version
	modeOtherLayout   = "other layout"   // keeps its state in another way
	modeControlStops  = "control stops"  // its media loop beats, its control side does so once
	modePoison        = "poison"         // dies of a router that it has in hand, unless told to skip it
	modeHolds         = "holds"          // beats, and always has a router in hand
	modeCircles       = "circles"        // beats for a moment, and then runs in circles for a router, unless told to skip it
	modePoisonEarly   = "poison early"   // as poison, but its successors die before they are ready
	modeCursed        = "cursed"         // dies of a router that it has in hand, even if told to skip it
	modeDeaf          = "deaf"           // does not answer who wants to adopt it
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(childMode); mode != "" {
		os.Exit(beWorker(mode))
	}
	goleak.VerifyTestMain(m)
}

// beWorker is a worker without media: it says hello, takes its slot, and serves health.
func beWorker(mode string) int {
	switch mode {
	case modeSilent:
		return handoff.ExitFailure
	case modeBadInherit:
		fmt.Fprintln(os.Stderr, "no descriptor")
		return handoff.ExitBadSettings
	case modeMute:
		<-time.After(time.Minute)
	case modeKilled:
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case modeFaults:
		panic("no worker")
	case modeStubborn:
		signal.Ignore(syscall.SIGTERM)
	}
	conn, err := handoff.FromFile(os.NewFile(handoff.FD, "handoff"))
	if err != nil {
		return handoff.ExitFailure
	}
	hello := handoff.Hello{Protocol: handoff.Protocol, PID: os.Getpid(), Layout: 1, Version: mode}
	if mode == modeOtherLayout {
		hello.Layout++
	}
	if mode == modeStrange {
		hello.Protocol++
	}
	if conn.Send(handoff.Message{Hello: &hello}) != nil {
		return handoff.ExitFailure
	}
	m, files, err := conn.Receive(context.Background())
	if err != nil {
		return handoff.ExitOK // a spare that nobody needs
	}
	switch mode {
	case modeIdle:
		<-time.After(time.Minute)
	case modeBadSettings:
		_ = conn.Send(handoff.Message{Failed: &handoff.Failed{Reason: "no good"}})
		<-time.After(20 * time.Millisecond) // it closes what it has open
		return handoff.ExitBadSettings
	case modeEcho:
		go echo(files[0])
	case modeNoTakeover:
		if m.Assign.Takeover {
			return handoff.ExitFailure
		}
	case modeRefusesState:
		if m.Assign.Takeover {
			return handoff.ExitBadSettings
		}
	}
	return serveWorker(mode, conn, m.Assign, files)
}

// offerAdoption accepts new supervisors, one after another.
func offerAdoption(a *handoff.Assign, files []*os.File) error {
	listener, err := handoff.Listen(a.AdoptSocket)
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if _, _, err := conn.Receive(context.Background()); err != nil {
				continue
			}
			_ = conn.Send(handoff.Message{Adopted: &handoff.Adopted{
				Protocol: handoff.Protocol, PID: os.Getpid(), Slot: a.Slot, Generation: a.Generation, Epoch: a.Epoch, Files: a.Files,
			}}, files...)
		}
	}()
	return nil
}

// poison is the mark of the router that crashes workers of modePoison.
const poison = 4711

// takeInHand says in the ledger that the worker works for that router.
func takeInHand(files []*os.File) {
	for _, f := range files {
		if view, err := ledgerfile.OpenHeader(f); err == nil && f.Name() == handoff.FileLedger {
			view.SetInHand(poison)
		}
	}
}

// turnLoop beats as both sides of a worker do, and stops turning the loop when it is told.
func turnLoop(files []*os.File, generation ident.Generation, circles bool) {
	for _, f := range files {
		view, err := ledgerfile.OpenHeader(f)
		if err != nil || f.Name() != handoff.FileLedger {
			continue
		}
		view.SetInHand(poison)
		view.SetGeneration(uint64(generation))
		go func() {
			for range time.Tick(10 * time.Millisecond) {
				view.BeatControl(ledgerfile.Now())
			}
		}()
		runtime.LockOSThread()
		view.SetLoopThread(unix.Gettid())
		for n := range 100 {
			view.BeatLoop(ledgerfile.Now())
			<-time.After(10 * time.Millisecond)
			if circles && n > 10 {
				for circles := new(atomic.Int64); ; {
					circles.Add(1)
				}
			}
		}
		for range time.Tick(10 * time.Millisecond) {
			view.BeatLoop(ledgerfile.Now())
		}
	}
}

// beatLoop beats as a media loop does.
func beatLoop(files []*os.File, generation ident.Generation) {
	for _, f := range files {
		view, err := ledgerfile.OpenHeader(f)
		if err != nil || f.Name() != handoff.FileLedger {
			continue
		}
		view.SetGeneration(uint64(generation))
		view.BeatControl(ledgerfile.Now())
		for range time.Tick(10 * time.Millisecond) {
			view.BeatLoop(ledgerfile.Now())
		}
	}
}

func serveWorker(mode string, conn *handoff.Conn, a *handoff.Assign, files []*os.File) int {
	offer := offerAdoption
	if mode == modeDeaf {
		offer = func(a *handoff.Assign, _ []*os.File) error { _, err := handoff.Listen(a.AdoptSocket); return err }
	}
	if offer(a, files) != nil {
		return handoff.ExitFailure
	}
	_ = os.Remove(a.Socket)
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", a.Socket)
	if err != nil {
		return handoff.ExitFailure
	}
	server, state := grpc.NewServer(), health.NewServer()
	if mode == modeStopped {
		state.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	}
	healthv1.RegisterHealthServer(server, state)
	if mode == modeEventsAndGaps {
		workerv1.RegisterWorkerServiceServer(server, eventSource{})
	}
	ready := &handoff.Ready{}
	if a.Takeover {
		ready.Resumed = &handoff.Resumed{Consumers: 5}
	}
	switch mode {
	case modeControlStops:
		go beatLoop(files, a.Generation)
	case modeHolds, modeCircles:
		go turnLoop(files, a.Generation, mode == modeCircles && !slices.Contains(a.SkipRouters, poison))
	}
	poisoned := (mode == modePoison || mode == modePoisonEarly) && !slices.Contains(a.SkipRouters, poison) || mode == modeCursed
	if poisoned && a.Takeover && mode == modePoisonEarly {
		takeInHand(files)
		panic("the loop found nonsense before it was ready")
	}
	if conn.Send(handoff.Message{Ready: ready}) != nil {
		return handoff.ExitFailure
	}
	if mode == modePanic || poisoned {
		if poisoned {
			takeInHand(files)
		}
		panic("the loop found nonsense")
	}
	go func() {
		if m, _, err := conn.Receive(context.Background()); err == nil && m.Retire != nil {
			server.Stop()
		}
	}()
	_ = server.Serve(listener)
	return handoff.ExitOK
}

// echo answers every datagram with the process's number.
func echo(f *os.File) {
	socket, err := net.FilePacketConn(f)
	if err != nil {
		return
	}
	b := make([]byte, 100)
	for {
		_, from, err := socket.ReadFrom(b)
		if err != nil {
			return
		}
		if _, err := socket.WriteTo(fmt.Appendf(nil, "%d", os.Getpid()), from); err != nil {
			return
		}
	}
}

// eventSource tells one event in each stream and ends it, and a usage.
type eventSource struct {
	workerv1.UnimplementedWorkerServiceServer
}

func (eventSource) WatchEvents(_ *workerv1.WatchEventsRequest, stream grpc.ServerStreamingServer[workerv1.WatchEventsResponse]) error {
	return stream.Send(&workerv1.WatchEventsResponse{Event: &workerv1.WatchEventsResponse_TransportClosed{
		TransportClosed: &workerv1.TransportClosedEvent{TransportId: "t"},
	}})
}

func (eventSource) GetResourceUsage(context.Context, *workerv1.GetResourceUsageRequest) (*workerv1.GetResourceUsageResponse, error) {
	return &workerv1.GetResourceUsageResponse{Usage: &workerv1.ResourceUsage{Consumers: 42}}, nil
}

// testConfig is a pool of one slot with limits for tests.
func testConfig(t *testing.T) Config {
	t.Helper()
	return Config{
		Binary: os.Args[0], RunDir: t.TempDir(), Slots: 1, Sockets: make([]Sockets, 1),
		LogLevel: "INFO", OrphanTimeout: time.Minute, StopTimeout: 10 * time.Second, RestartBurst: 5,
		Health: Health{Interval: 50 * time.Millisecond, Timeout: time.Second, Failures: 2},
	}
}

// testPool is a pool that records for which CPU each process was started.
type testPool struct {
	*Pool
	mu    sync.Mutex
	mode  string            // of a program that is started for the first time; guarded by mu
	modes map[string]string // of those that were, by their paths; guarded by mu
	cpus  map[int]int       // by process; guarded by mu
}

// install makes the program that is opened next behave in another way.
func (p *testPool) install(mode string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = mode
}

func (p *testPool) modeOf(program string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.modes[program] == "" {
		p.modes[program] = p.mode
	}
	return p.modes[program]
}

func (p *testPool) startedFor(pid int) (cpu int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cpus[pid]
}

// others are the started processes but this one.
func (p *testPool) others(than int) (pids []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for pid := range p.cpus {
		if pid != than && !gone(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// startPool runs a pool whose workers are this test binary. stop ends it; it ends
// with the test in any case.
func startPool(t *testing.T, mode string, cfg Config) (p *testPool, stop func()) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	pool, err := NewPool(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	p = &testPool{Pool: pool, cpus: map[int]int{}, modes: map[string]string{}}
	p.startTimeout = 2 * time.Second
	p.install(mode)
	p.start = func(cmd *exec.Cmd, cpu int) error {
		cmd.Env = []string{childMode + "=" + p.modeOf(cmd.Path)}
		if err := p.startProcess(cmd, cpu); err != nil {
			return err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.cpus[cmd.Process.Pid] = cpu
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return p, stop
}
