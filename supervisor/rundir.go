package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

// runDir is the supervisor's own directory, locked against a second one.
type runDir struct {
	path string
	lock *os.File
}

// openRunDir makes the directory, for this user alone, and locks it.
func openRunDir(path string) (*runDir, error) {
	const fix = "set DSPEAK_RUN_DIR to a directory that this user may write"
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("run directory: %w; %s", err, fix)
	}
	if err := os.Chmod(path, 0o700); err != nil { //nolint:gosec // a directory wants the x bit
		return nil, fmt.Errorf("run directory: %w; %s", err, fix)
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator's own path
	if err != nil {
		return nil, fmt.Errorf("run directory: %w; %s", err, fix)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("run directory %s is used by another supervisor; stop it or set DSPEAK_RUN_DIR: %w", path, errs.ErrExists), lock.Close())
	}
	if !current(lock) {
		return nil, errors.Join(fmt.Errorf("run directory %s was just left by another supervisor; start again: %w", path, errs.ErrUnavailable), lock.Close())
	}
	return &runDir{path: path, lock: lock}, nil
}

// current says whether the lock file still has its name: a supervisor that ends
// removes it, and a lock on a file without a name keeps nobody out.
func current(lock *os.File) bool {
	open, err := lock.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(lock.Name())
	return err == nil && os.SameFile(open, named)
}

// close removes what the supervisor and its workers left, and lets the lock go.
func (d *runDir) close() error {
	sockets, err := filepath.Glob(filepath.Join(d.path, "*.sock"))
	faults := []error{err}
	for _, s := range sockets {
		faults = append(faults, os.Remove(s))
	}
	faults = append(faults, os.Remove(d.lock.Name()), d.lock.Close())
	_ = os.Remove(d.path) // it stays when somebody keeps other files in it
	return errors.Join(faults...)
}
