package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

// firstHighFD is above the descriptors that a worker gets: those numbers mean other
// files there.
const firstHighFD = 64

// program is a worker program. It can be started as long as its file is open, whatever
// becomes of the file's name: a worker that crashes while somebody installs another
// version is replaced by its own one.
type program struct {
	path string
	file *os.File
}

// openProgram opens the program of that path. An error says what to change and wraps
// errs.ErrInvalid.
func openProgram(path string) (*program, error) {
	f, err := os.Open(path) //nolint:gosec // the operator's own program
	if err != nil {
		return nil, fmt.Errorf("worker program: %w; set DSPEAK_WORKER_BINARY: %w", err, errs.ErrInvalid)
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, firstHighFD)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("worker program: %w", err)
	}
	return &program{path: path, file: os.NewFile(uintptr(fd), path)}, nil
}

// command makes the command of a worker process. It inherits nothing of the
// supervisor's environment: all settings come over the handoff.
func (p *program) command() *exec.Cmd {
	cmd := exec.Command("/proc/self/fd/" + strconv.Itoa(int(p.file.Fd()))) //nolint:gosec,noctx // the operator's own program; its life is the keeper's
	cmd.Args[0] = p.path
	cmd.Env = []string{}
	return cmd
}

// close ends the use of the program; processes of it run on.
func (p *program) close() error { return p.file.Close() }
