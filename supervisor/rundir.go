package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/supervisor/process"
)

const (
	// lockName is the file that is locked, and its name among inherited files.
	lockName = "lock"
	// adminName is the operators' socket.
	adminName = "supervisor.sock"
	// madeText in the lock file says that a supervisor made the directory, which removes it.
	madeText = "directory made by the supervisor\n"
)

// runDir is the supervisor's own directory, locked against a second one.
type runDir struct {
	path string
	lock *os.File
	made bool // by a supervisor
}

// openRunDir makes the directory, for this user alone, or checks the one that is there,
// and locks it. lock is the lock file if this process has it already from the supervisor
// that it replaces.
func openRunDir(path string, lock *os.File) (*runDir, error) {
	made, err := makeRunDir(path)
	if err != nil {
		return nil, err
	}
	d := &runDir{path: path, lock: lock, made: made}
	if lock == nil || !current(lock, path) {
		if lock != nil {
			_ = lock.Close() // somebody removed the directory
		}
		if d.lock, err = lockRunDir(path); err != nil {
			return nil, err
		}
	}
	if err := d.noteMade(); err != nil {
		return nil, errors.Join(fmt.Errorf("run directory: %w", err), d.lock.Close())
	}
	return d, nil
}

// remedy ends the errors of a directory that does not serve.
const remedy = "set DSPEAK_RUN_DIR to a directory of this user alone (mode 0700), or to one that does not exist yet"

// makeRunDir makes the directory. One that is there must be this user's alone.
func makeRunDir(path string) (made bool, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return false, fmt.Errorf("run directory: %w; %s", err, remedy)
	}
	err = os.Mkdir(path, 0o700)
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return false, fmt.Errorf("run directory: %w; %s", err, remedy)
	}
	private, err := checkRunDir(path)
	if err == nil && !private {
		err = os.Chmod(path, 0o700) //nolint:gosec // a directory wants the x bit
	}
	if err != nil {
		return false, fmt.Errorf("run directory: %w; %s", err, remedy)
	}
	return false, nil
}

// checkRunDir says whether the directory that is there serves. private: its mode is right,
// too; otherwise nobody but the supervisor uses the directory and the mode may be changed.
func checkRunDir(path string) (private bool, err error) {
	link, err := os.Lstat(path)
	if err != nil {
		return false, err
	}
	self := os.Geteuid()
	if owner := ownerOf(link); link.Mode().Type() == fs.ModeSymlink && owner != self && owner != 0 {
		return false, fmt.Errorf("%s is a symbolic link of user %d, this is user %d: %w", path, owner, self, errs.ErrDenied)
	}
	info, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	mode := info.Mode()
	switch owner := ownerOf(info); {
	case !mode.IsDir():
		return false, fmt.Errorf("%s is no directory: %w", path, errs.ErrInvalid)
	case owner != self:
		return false, fmt.Errorf("%s belongs to user %d, this is user %d: %w", path, owner, self, errs.ErrDenied)
	case mode.Perm()&0o022 != 0 || mode&fs.ModeSticky != 0:
		return false, fmt.Errorf("%s is open to other users (mode %#o): %w", path, mode.Perm(), errs.ErrDenied)
	}
	private = mode.Perm() == 0o700
	return private, checkEntries(path, private)
}

// checkEntries says whether the directory's files are in the way: those of others are not
// in a private one.
func checkEntries(path string, private bool) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case !ours(name) && !private:
			return fmt.Errorf("%s is open to other users and holds files of others, such as %q: %w", path, name, errs.ErrDenied)
		case ours(name) && name != lockName && e.Type() != fs.ModeSocket:
			return fmt.Errorf("%s is no socket and in the way of one: %w", filepath.Join(path, name), errs.ErrExists)
		}
	}
	return nil
}

func ownerOf(info fs.FileInfo) int {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1
	}
	return int(stat.Uid)
}

// ours reports whether a file of that name in the run directory is the supervisor's or a
// worker's.
func ours(name string) bool {
	return name == lockName || name == adminName || process.IsSocketName(name)
}

// lockRunDir opens and locks the lock file.
func lockRunDir(path string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600) //nolint:gosec // the operator's own path
	if err != nil {
		return nil, fmt.Errorf("run directory: %w; %s", err, remedy)
	}
	if info, err := lock.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("run directory: %s is no plain file; remove it, or %s: %w", lock.Name(), remedy, errs.ErrExists), lock.Close())
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("run directory %s is used by another supervisor; stop it or set DSPEAK_RUN_DIR: %w", path, errs.ErrExists), lock.Close())
	}
	if !current(lock, path) {
		return nil, errors.Join(fmt.Errorf("run directory %s was just left by another supervisor; start again: %w", path, errs.ErrUnavailable), lock.Close())
	}
	return lock, nil
}

// noteMade keeps over a crash that a supervisor made the directory.
func (d *runDir) noteMade() error {
	if d.made {
		_, err := d.lock.WriteAt([]byte(madeText), 0)
		return err
	}
	text := make([]byte, len(madeText))
	n, _ := d.lock.ReadAt(text, 0) // a shorter file is another text
	d.made = string(text[:n]) == madeText
	return nil
}

// restore makes the directory anew if somebody removed it: workers that start need it.
func (d *runDir) restore() error {
	if info, err := os.Stat(d.path); err == nil && info.IsDir() {
		return nil
	}
	if _, err := makeRunDir(d.path); err != nil {
		return err
	}
	return fmt.Errorf("%s was removed and is made anew; operators cannot reach the supervisor until it starts again: %w", d.path, errs.ErrNotFound)
}

// current says whether the lock file still has its name: a supervisor that ends
// removes it, and a lock on a file without a name keeps nobody out.
func current(lock *os.File, path string) bool {
	open, err := lock.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(filepath.Join(path, lockName))
	return err == nil && os.SameFile(open, named)
}

// close removes what the supervisor and its workers left, and lets the lock go. The
// directory goes with it if a supervisor made it and nobody keeps other files in it.
func (d *runDir) close() error {
	entries, err := os.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return d.lock.Close()
	}
	faults := []error{err}
	for _, e := range entries {
		if e.Type() == fs.ModeSocket && ours(e.Name()) {
			faults = append(faults, gone(os.Remove(filepath.Join(d.path, e.Name()))))
		}
	}
	if current(d.lock, d.path) {
		faults = append(faults, os.Remove(filepath.Join(d.path, lockName)))
	}
	faults = append(faults, d.lock.Close())
	if d.made {
		_ = os.Remove(d.path) // it stays when it is not empty
	}
	return errors.Join(faults...)
}

// gone forgives that a file is gone already.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// leave lets the lock go; what workers have there stays.
func (d *runDir) leave() error { return d.lock.Close() }
