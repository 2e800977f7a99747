package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

// lockName is the file that is locked, and its name among inherited files.
const lockName = "lock"

// runDir is the supervisor's own directory, locked against a second one.
type runDir struct {
	path string
	lock *os.File
}

// openRunDir makes the directory, for this user alone, and locks it. lock is the lock
// file if this process has it already from the supervisor that it replaces.
func openRunDir(path string, lock *os.File) (*runDir, error) {
	const fix = "set DSPEAK_RUN_DIR to a directory that this user may write"
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("run directory: %w; %s", err, fix)
	}
	if err := os.Chmod(path, 0o700); err != nil { //nolint:gosec // a directory wants the x bit
		return nil, fmt.Errorf("run directory: %w; %s", err, fix)
	}
	if lock != nil {
		return &runDir{path: path, lock: lock}, nil
	}
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator's own path
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
	var faults []error
	for _, pattern := range []string{"*.sock", "*.handoff"} {
		sockets, err := filepath.Glob(filepath.Join(d.path, pattern))
		faults = append(faults, err)
		for _, s := range sockets {
			faults = append(faults, os.Remove(s))
		}
	}
	faults = append(faults, os.Remove(filepath.Join(d.path, lockName)), d.lock.Close())
	_ = os.Remove(d.path) // it stays when somebody keeps other files in it
	return errors.Join(faults...)
}

// leave lets the lock go; what workers have there stays.
func (d *runDir) leave() error { return d.lock.Close() }
