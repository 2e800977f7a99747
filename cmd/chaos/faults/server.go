package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dspeak/sfu/internal/errs"
	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
)

const (
	startTimeout = 20 * time.Second
	stopTimeout  = 30 * time.Second
	askTimeout   = 5 * time.Second
	// commandTimeout bounds one operators' command.
	commandTimeout = time.Minute
	lookEvery      = 5 * time.Millisecond
	// grace of sessions: longer than a supervisor is away.
	grace = 15 * time.Second
	// bursts of restarts are what this program makes.
	bursts = 100_000
)

// server is the supervisor under test with its run directory.
type server struct {
	cfg    Config
	runDir string
	port   int
	media  int
	log    io.Writer
	reaper *reaper

	conn   *grpc.ClientConn
	admin  adminv1.AdminServiceClient
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // of Wait, read after exited is closed
}

func newServer(cfg Config, log io.Writer, r *reaper) (*server, error) {
	runDir, err := os.MkdirTemp("", "chaos-")
	if err != nil {
		return nil, fmt.Errorf("make a run directory: %w", err)
	}
	s := &server{cfg: cfg, runDir: runDir, log: log, reaper: r}
	if s.port, err = freePort(); err == nil {
		s.media, err = freePorts(cfg.Workers + 2)
	}
	if err == nil {
		s.conn, err = grpc.NewClient("unix:"+filepath.Join(runDir, "supervisor.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second}))
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(runDir))
	}
	s.admin = adminv1.NewAdminServiceClient(s.conn)
	return s, nil
}

func freePort() (int, error) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, fmt.Errorf("find a port: %w", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil //nolint:forcetypeassert // of a TCP listener
}

// freePorts is the first of n neighbours that are free in both protocols, below
// the range of outgoing ports.
func freePorts(n int) (int, error) {
	for range 100 {
		first := 12000 + rand.IntN(18000) //nolint:gosec // no secret
		free := true
		for port := first; port < first+n && free; port++ {
			free = portFree(port)
		}
		if free {
			return first, nil
		}
	}
	return 0, fmt.Errorf("%d free ports: %w", n, errs.ErrNotFound)
}

func portFree(port int) bool {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{Port: port})
	if err != nil {
		return false
	}
	_ = l.Close()
	u, err := net.ListenUDP("udp", &net.UDPAddr{Port: port})
	if err != nil {
		return false
	}
	_ = u.Close()
	return true
}

func (s *server) url(scheme string) string { return scheme + "://127.0.0.1:" + strconv.Itoa(s.port) }

func (s *server) environment() []string {
	set := map[string]string{
		"PORT": strconv.Itoa(s.port), "SFU_PORT": strconv.Itoa(s.media), "DSPEAK_RUN_DIR": s.runDir,
		"DSPEAK_HTTP_HOST": "127.0.0.1", "SFU_IPV4": "127.0.0.1", "SFU_PREFERRED_FAMILY": "ipv4",
		"SFU_GRACE_MS": strconv.FormatInt(grace.Milliseconds(), 10), "DSPEAK_WORKERS": strconv.Itoa(s.cfg.Workers),
		"DSPEAK_RESTART_BURST": strconv.Itoa(bursts),
		"PATH":                 os.Getenv("PATH"), "HOME": os.TempDir(), "GORACE": "halt_on_error=1 exitcode=66 atexit_sleep_ms=0",
	}
	maps.Copy(set, s.cfg.Env)
	var list []string
	for name, value := range set {
		list = append(list, name+"="+value)
	}
	return list
}

// start starts a supervisor and returns how long it took until it served.
func (s *server) start(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	cmd := exec.Command(filepath.Join(s.cfg.Programs, "supervisor")) //nolint:gosec,noctx // it is to be killed; the path is the operator's
	cmd.Env, cmd.Stdout, cmd.Stderr = s.environment(), s.log, s.log
	exited := make(chan struct{})
	if err := s.reaper.start(cmd); err != nil {
		return 0, fmt.Errorf("start the supervisor: %w", err)
	}
	s.cmd, s.exited = cmd, exited
	go func() {
		s.err = cmd.Wait()
		s.reaper.ended(cmd)
		close(exited)
	}()
	err := await(ctx, startTimeout, func() error { return s.healthy(ctx) })
	return time.Since(began), err
}

// healthy says what /health does.
func (s *server) healthy(ctx context.Context) error {
	select {
	case <-s.exited:
		return fmt.Errorf("%w: the supervisor ended: %w", errFatal, s.err)
	default:
	}
	status, _, err := s.get(ctx, "/health")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("health is %d: %w", status, errs.ErrUnavailable)
	}
	return err
}

// get reads a page of the server's HTTP port.
func (s *server) get(ctx context.Context, path string) (int, string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url("http")+path, nil)
	if err != nil {
		return 0, "", fmt.Errorf("get %s: %w", path, err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return 0, "", fmt.Errorf("get %s: %w", path, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, "", fmt.Errorf("get %s: %w", path, err)
	}
	return response.StatusCode, string(body), nil
}

// workers are the slots as the supervisor tells them.
func (s *server) workers(ctx context.Context) ([]*adminv1.Worker, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	got, err := s.admin.ListWorkers(ctx, &adminv1.ListWorkersRequest{})
	if err != nil {
		return nil, fmt.Errorf("list workers: %w", err)
	}
	return got.GetWorkers(), nil
}

// ready returns the slot once a process serves it that is none of the old ones.
func (s *server) ready(ctx context.Context, slot uint32, old ...uint32) (worker *adminv1.Worker, err error) {
	err = await(ctx, s.cfg.Deadline, func() error {
		all, err := s.workers(ctx)
		if err != nil {
			return err
		}
		for _, w := range all {
			if w.GetSlot() != slot {
				continue
			}
			for _, pid := range old {
				if w.GetPid() == pid {
					return fmt.Errorf("slot %d is still that of process %d: %w", slot, pid, errs.ErrUnavailable)
				}
			}
			if w.GetState() != "ready" || w.GetPid() == 0 {
				return fmt.Errorf("slot %d is %s: %w", slot, w.GetState(), errs.ErrUnavailable)
			}
			worker = w
			return nil
		}
		return fmt.Errorf("slot %d: %w", slot, errs.ErrNotFound)
	})
	return worker, err
}

// kill kills the supervisor and returns when it is dead.
func (s *server) kill() error {
	if err := s.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill the supervisor: %w", err)
	}
	<-s.exited
	return nil
}

// command runs dspeakctl.
func (s *server) command(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.cfg.Programs, "dspeakctl"), args...) //nolint:gosec // the path is the operator's
	cmd.Env = s.environment()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := s.reaper.start(cmd); err != nil {
		return fmt.Errorf("dspeakctl: %w", err)
	}
	err := cmd.Wait()
	s.reaper.ended(cmd)
	if err != nil {
		return fmt.Errorf("dspeakctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return nil
}

// stop ends the supervisor as an operator does and says what it left.
func (s *server) stop(ctx context.Context) (faults []error) {
	_ = s.conn.Close()
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
		select {
		case <-s.exited:
			if s.err != nil {
				faults = append(faults, fmt.Errorf("the supervisor ended with %w", s.err))
			}
		case <-time.After(stopTimeout):
			_ = s.cmd.Process.Kill()
			<-s.exited
			faults = append(faults, fmt.Errorf("the supervisor did not stop within %v: %w", stopTimeout, errs.ErrUnavailable))
		}
	}
	faults = append(faults, s.reaper.nobodyLeft(context.WithoutCancel(ctx))...)
	entries, err := os.ReadDir(s.runDir)
	if err == nil {
		for _, entry := range entries {
			faults = append(faults, fmt.Errorf("left in the run directory: %s: %w", entry.Name(), errs.ErrExists))
		}
	}
	for port := s.media; port < s.media+s.cfg.Workers; port++ {
		if !portFree(port) {
			faults = append(faults, fmt.Errorf("port %d is still taken: %w", port, errs.ErrExists))
		}
	}
	return append(faults, os.RemoveAll(s.runDir))
}

// await asks again and again until the check has no complaint, at most until the
// limit; errFatal ends it at once.
func await(ctx context.Context, limit time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := check()
		if err == nil || errors.Is(err, errFatal) {
			return err
		}
		pause(ctx, lookEvery)
		if ctx.Err() != nil {
			return fmt.Errorf("not within %v: %w", limit, err)
		}
	}
}
