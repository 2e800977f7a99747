package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/handoff"
)

// highFD is where a program's descriptor lies, if the process may have that many: a child
// gets other files under low numbers, and os/exec moves its own pipe above those.
const highFD = 512

// program is a worker program. It can be started as long as its file is open, whatever
// becomes of the file's name: a worker that crashes while somebody installs another
// version is replaced by its own one.
type program struct {
	path string
	file *os.File
}

// programRemedy ends the errors of a file that is no worker.
const programRemedy = "set DSPEAK_WORKER_BINARY to the worker program of this version"

// openProgram opens the program of that path. An error says what to change and wraps
// kindOf it.
func openProgram(path string) (*program, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) //nolint:gosec // the operator's own program
	if err != nil {
		return nil, fmt.Errorf("worker program: %w; %s: %w", err, programRemedy, kindOf(err))
	}
	if err := executable(f); err != nil {
		return nil, errors.Join(fmt.Errorf("worker program %s %w; %s: %w", path, err, programRemedy, kindOf(err)), f.Close())
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil, errors.Join(fmt.Errorf("limit of descriptors: %w", err), f.Close())
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, int(min(highFD, limit.Cur/8*7)))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("worker program: %w", err)
	}
	return &program{path: path, file: os.NewFile(uintptr(fd), path)}, nil
}

var (
	errNoFile     = errors.New("is no plain file")
	errDirectory  = errors.New("is a directory")
	errExecutable = errors.New("is not executable for this user")
)

// executable reports why the file is certainly no program.
func executable(f *os.File) error {
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return errDirectory
	case !info.Mode().IsRegular():
		return errNoFile
	}
	if unix.Faccessat(unix.AT_FDCWD, f.Name(), unix.X_OK, unix.AT_EACCESS) != nil {
		return errExecutable
	}
	return nil
}

// checkTimeout bounds how long a program may take to show that it is a worker.
const checkTimeout = 8 * time.Second

// CheckProgram starts the program of that path, waits until it shows that it is a worker
// of this version, and ends it. An error says what to change; it wraps errs.ErrInvalid, or
// errs.ErrUnavailable where another attempt may succeed.
func CheckProgram(ctx context.Context, path string) error {
	log := slog.New(slog.DiscardHandler) // what the program says is in the error
	p := &Pool{log: log, startTimeout: checkTimeout}
	p.start = p.startProcess
	return p.checkProgram(ctx, path)
}

func (p *Pool) checkProgram(ctx context.Context, path string) error {
	program, err := openProgram(path)
	if err != nil {
		return err
	}
	c, err := p.spawn(ctx, program, -1)
	if err == nil {
		c.stop(lastMoment, nil)
	}
	p.reapers.Wait()
	if err = errors.Join(err, program.close()); err != nil {
		return fmt.Errorf("worker program %s is no worker: %w; %s: %w", path, err, programRemedy, kindOf(err))
	}
	return nil
}

// kindOf tells a program that would fail again from a passing fault of its surroundings: the
// machine lacks something for the moment, time included, the file is just being written, or
// somebody else, such as the kernel without memory, ended the process.
func kindOf(err error) error {
	for _, passing := range []error{
		context.Canceled, context.DeadlineExceeded, errKilled,
		unix.EAGAIN, unix.ENOMEM, unix.EMFILE, unix.ENFILE, unix.ETXTBSY, unix.EIO, unix.ESTALE,
	} {
		if errors.Is(err, passing) {
			return errs.ErrUnavailable
		}
	}
	return errs.ErrInvalid
}

// command makes the command of a worker process. It inherits nothing of the
// supervisor's environment: all settings come over the handoff. Its one variable keeps a
// supervisor that is taken for a worker from serving.
func (p *program) command() *exec.Cmd {
	cmd := exec.Command("/proc/self/fd/" + strconv.Itoa(int(p.file.Fd()))) //nolint:gosec,noctx // the operator's own program; its life is the keeper's
	cmd.Args[0] = p.path
	cmd.Env = []string{handoff.EnvWorker + "=1"}
	return cmd
}

// close ends the use of the program; processes of it run on.
func (p *program) close() error { return p.file.Close() }
