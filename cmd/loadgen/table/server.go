package table

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dspeak/sfu/cmd/loadgen/load"
	"github.com/dspeak/sfu/internal/errs"
	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
)

const (
	// startTries is how often a start is tried whose ports somebody else took.
	startTries = 3
	startTime  = 15 * time.Second
	idleTime   = 30 * time.Second
	stopTime   = 10 * time.Second
	// askEvery is the time between two questions whether something has happened.
	askEvery = 20 * time.Millisecond
)

// server is a supervisor with one worker, for this measurement alone.
type server struct {
	cmd    *exec.Cmd
	dir    string
	port   int
	output bytes.Buffer // read after exited is closed
	exited chan struct{}
	conns  [2]*grpc.ClientConn
	admin  adminv1.AdminServiceClient
	worker workerv1.WorkerServiceClient
	// allowed are the CPUs of this process before it was pinned.
	allowed unix.CPUSet
}

// startServer returns when the server serves.
func startServer(ctx context.Context, cfg Config) (*server, error) {
	for try := 1; ; try++ {
		s, err := tryServer(ctx, cfg)
		if err == nil || try == startTries || ctx.Err() != nil || errors.Is(err, os.ErrNotExist) {
			return s, err
		}
	}
}

func tryServer(ctx context.Context, cfg Config) (*server, error) {
	s := &server{exited: make(chan struct{})}
	if err := unix.SchedGetaffinity(0, &s.allowed); err != nil {
		return nil, fmt.Errorf("read own affinity: %w", err)
	}
	media, err := freePort()
	if err == nil {
		s.port, err = freePort()
	}
	if err == nil {
		s.dir, err = os.MkdirTemp("", "dspeak-table-")
	}
	if err != nil {
		return nil, fmt.Errorf("prepare the server: %w", err)
	}
	s.cmd = exec.Command(filepath.Join(cfg.Programs, "supervisor"), "--workers", "1") //nolint:gosec,noctx // our own program; stop ends it in order
	// Nothing of the caller's settings counts.
	s.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "DSPEAK_RUN_DIR=" + s.dir, "DSPEAK_HTTP_HOST=127.0.0.1", "PORT=" + strconv.Itoa(s.port),
		"SFU_PORT=" + strconv.Itoa(media), "SFU_IPV4=127.0.0.1", "SFU_PREFERRED_FAMILY=ipv4", "SFU_GRACE_MS=500",
		"DSPEAK_SPARE=false", "DSPEAK_ORPHAN_TIMEOUT=2s", "DSPEAK_LOG_LEVEL=warn",
	}, cfg.Env...)
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	if err := s.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the server (make build makes it): %w", err), os.RemoveAll(s.dir))
	}
	go func() {
		_ = s.cmd.Wait() // what it said is told
		close(s.exited)
	}()
	if err := s.connect(ctx); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// freePort is a port of which nobody uses either protocol, nor of the next one.
func freePort() (int, error) {
	for range 100 {
		port, err := tryPort()
		if err == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free ports: %w", errs.ErrExhausted)
}

func tryPort() (port int, err error) {
	var open []interface{ Close() error }
	defer func() {
		for _, o := range open {
			err = errors.Join(err, o.Close())
		}
	}()
	for i := range 2 {
		if i > 0 {
			port++
		}
		udp, err := net.ListenUDP("udp", &net.UDPAddr{Port: port})
		if err != nil {
			return 0, err
		}
		open = append(open, udp)
		if addr, ok := udp.LocalAddr().(*net.UDPAddr); ok {
			port = addr.Port
		}
		tcp, err := net.ListenTCP("tcp", &net.TCPAddr{Port: port})
		if err != nil {
			return 0, err
		}
		open = append(open, tcp)
	}
	return port - 1, nil
}

// connect waits until the server serves.
func (s *server) connect(ctx context.Context) error {
	for i, name := range []string{"supervisor.sock", "worker-0.sock"} {
		conn, err := grpc.NewClient("unix:"+filepath.Join(s.dir, name), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return fmt.Errorf("dial the server: %w", err)
		}
		s.conns[i] = conn
	}
	s.admin, s.worker = adminv1.NewAdminServiceClient(s.conns[0]), workerv1.NewWorkerServiceClient(s.conns[1])
	return s.await(ctx, startTime, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/health", s.port), nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		if err := resp.Body.Close(); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("health %s: %w", resp.Status, errs.ErrUnavailable)
		}
		return nil
	})
}

// await asks until there is no complaint, or returns the last one.
func (s *server) await(ctx context.Context, limit time.Duration, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", limit, err)
		case <-s.exited:
			return fmt.Errorf("the server ended: %s: %w", strings.TrimSpace(s.output.String()), errs.ErrUnavailable)
		}
	}
}

// idle returns what to measure once the worker serves and has nothing to do.
func (s *server) idle(ctx context.Context) (target, error) {
	t := target{url: fmt.Sprintf("ws://127.0.0.1:%d/socket", s.port)}
	err := s.await(ctx, idleTime, func(ctx context.Context) error {
		resp, err := s.admin.ListWorkers(ctx, &adminv1.ListWorkersRequest{})
		if err != nil {
			return err
		}
		for _, w := range resp.GetWorkers() {
			if w.GetState() != "ready" || w.GetChannels()+w.GetTransports() > 0 {
				return fmt.Errorf("the worker is %s with %d channels: %w", w.GetState(), w.GetChannels(), errs.ErrUnavailable)
			}
			t.pid, t.cpu = int(w.GetPid()), load.NoCPU
			if w.Cpu != nil {
				t.cpu = otherCPU(&s.allowed, int(w.GetCpu()))
			}
		}
		return nil
	})
	return t, err
}

// sentCounts is what the worker has sent so far.
type sentCounts struct{ packets, padding uint64 }

// sent asks the worker itself.
func (s *server) sent(ctx context.Context) (sentCounts, error) {
	resp, err := s.worker.GetResourceUsage(ctx, &workerv1.GetResourceUsageRequest{})
	if err != nil {
		return sentCounts{}, fmt.Errorf("ask the worker: %w", err)
	}
	return sentCounts{packets: resp.GetUsage().GetPacketsSent(), padding: resp.GetUsage().GetPaddingBytes()}, nil
}

// paddingSince is the mean padding of the packets since then, in bytes.
func (c sentCounts) paddingSince(before sentCounts) float64 {
	if c.packets == before.packets {
		return 0
	}
	return float64(c.padding-before.padding) / float64(c.packets-before.packets)
}

// stop ends the server and removes what is left of it.
func (s *server) stop() error {
	var err error
	for _, conn := range s.conns {
		if conn != nil {
			err = errors.Join(err, conn.Close())
		}
	}
	http.DefaultClient.CloseIdleConnections()
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-s.exited:
	case <-time.After(stopTime):
		_ = s.cmd.Process.Kill()
		<-s.exited
		err = errors.Join(err, fmt.Errorf("the server did not end within %s: %w", stopTime, errs.ErrUnavailable))
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}
