package e2e

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestForeignRunDirectory starts in directories that others use: they stay as they are.
func TestForeignRunDirectory(t *testing.T) {
	for name, mode := range map[string]os.FileMode{"read by others": 0o755, "written by others": 0o777 | os.ModeSticky} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(shortFolder(t), "shared")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(dir, mode); err != nil {
				t.Fatal(err)
			}
			foreign := listenUnix(t, filepath.Join(dir, "foreign.sock"))
			env := map[string]string{
				"PORT": strconv.Itoa(freeMediaPort(t, 1)), "SFU_PORT": strconv.Itoa(freeMediaPort(t, 2)), "DSPEAK_RUN_DIR": dir,
			}
			refusesToStart(t, bin.supervisor, env, []string{"--workers", "1"}, 0, []string{"DSPEAK_RUN_DIR", dir, "0700"})
			if info, err := os.Stat(dir); err != nil || info.Mode()&(os.ModePerm|os.ModeSticky) != mode {
				t.Errorf("the directory is %v, %v", info.Mode(), err)
			}
			answers(t, foreign)
		})
	}
}

func listenUnix(t *testing.T, path string) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return path
}

func answers(t *testing.T, path string) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Error(err)
		return
	}
	_ = conn.Close()
}

// TestRunDirectoryWithForeignFiles leaves them, and the directory, at a stop and after a
// crash.
func TestRunDirectoryWithForeignFiles(t *testing.T) {
	s := &server{settings: settings{workers: 1}, host: "127.0.0.1", port: freePort(t), media: freeMediaPort(t, 3), log: new(output), exited: make(chan struct{})}
	s.runDir = filepath.Join(shortFolder(t), "run")
	if err := os.Mkdir(s.runDir, 0o700); err != nil {
		t.Fatal(err)
	}
	foreign := []string{listenUnix(t, filepath.Join(s.runDir, "foreign.sock")), listenUnix(t, filepath.Join(s.runDir, "worker-x.handoff"))}
	s.start(t)
	foreign = append(foreign, listenUnix(t, filepath.Join(s.runDir, "other.sock")))
	s.kill(t)
	s.again(t)
	for _, path := range foreign {
		answers(t, path)
	}
	s.terminate(t)
	for _, path := range foreign {
		answers(t, path)
	}
	entries, err := os.ReadDir(s.runDir)
	if err != nil || len(entries) != len(foreign) {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// TestRunDirectoryRemoved while the server runs: workers are replaced all the same.
func TestRunDirectoryRemoved(t *testing.T) {
	s := startServer(t, settings{})
	pid := s.firstWorker(t).GetPid()
	if err := os.RemoveAll(s.runDir); err != nil {
		t.Fatal(err)
	}
	// Operators are cut off: the log tells of the successor.
	before := strings.Count(s.log.String(), "worker took over")
	if err := syscall.Kill(int(pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, startTimeout, func() error {
		if strings.Count(s.log.String(), "worker took over") == before {
			return errors.New("nobody took over")
		}
		return nil
	})
	s.enter(t, "ann", "again").request(t, "get-rtp-capabilities", nil)
}
