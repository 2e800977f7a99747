package service

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/handoff"
)

// EnvFiles names the inherited files of a supervisor that replaces itself:
// "name=descriptor" with commas between.
const EnvFiles = "SFU_INHERITED_FILES"

// maxFiles bounds the inherited files: up to 17 for each of 1,024 workers and some more.
const maxFiles = 20000

// Files are inherited files that nobody has taken yet, by name. It belongs to the
// goroutine that starts the supervisor.
type Files struct{ files []*os.File }

// Inherited collects the files that systemd passed (LISTEN_FDS of sd_listen_fds(3))
// and those named by the value of EnvFiles; empty: none. All are closed on exec from
// then on. It is called once, before anything else opens files. A malformed value is
// an errs.ErrInvalid.
func Inherited(value string) (*Files, error) {
	in := &Files{}
	for _, f := range activation.Files(true) {
		again, err := rewrap(f)
		if err != nil {
			return nil, errors.Join(err, in.Close())
		}
		in.files = append(in.files, again)
	}
	for entry := range strings.SplitSeq(value, ",") {
		if entry == "" {
			continue
		}
		name, number, _ := strings.Cut(entry, "=")
		fd, err := strconv.Atoi(number)
		if err != nil || fd <= unix.Stderr || name == "" || len(in.files) >= maxFiles {
			return nil, errors.Join(fmt.Errorf("%s: %q is no file: %w", EnvFiles, entry, errs.ErrInvalid), in.Close())
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: descriptor of %q: %w: %w", EnvFiles, entry, err, errs.ErrInvalid), in.Close())
		}
		in.files = append(in.files, handoff.NewFile(fd, name))
	}
	return in, nil
}

// rewrap makes a file of its own of f, which is closed: one that the runtime does not
// poll if it is a media socket.
func rewrap(f *os.File) (*os.File, error) {
	again, err := duplicate(f, f.Name())
	return again, errors.Join(err, f.Close())
}

// Take returns the file of that name, which is the caller's from now on; nil: there
// is none.
func (in *Files) Take(name string) *os.File {
	if in == nil {
		return nil
	}
	i := slices.IndexFunc(in.files, func(f *os.File) bool { return f.Name() == name })
	if i < 0 {
		return nil
	}
	f := in.files[i]
	in.files = slices.Delete(in.files, i, i+1)
	return f
}

// FilesOf are files that this process passes on to itself; the caller's stay open.
func FilesOf(files map[string]*os.File) (*Files, error) {
	in := &Files{}
	for name, f := range files {
		again, err := duplicate(f, name)
		if err != nil {
			return nil, errors.Join(err, in.Close())
		}
		in.files = append(in.files, again)
	}
	return in, nil
}

// copies are the files once more, by name.
func (in *Files) copies() (map[string]*os.File, error) {
	all := map[string]*os.File{}
	for _, f := range in.files {
		again, err := duplicate(f, f.Name())
		if err != nil {
			for _, f := range all {
				err = errors.Join(err, f.Close())
			}
			return nil, err
		}
		all[f.Name()] = again
	}
	return all, nil
}

// duplicate is the same open file under a name.
func duplicate(f *os.File, name string) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("copy %s: %w", name, err)
	}
	var fd int
	var fault error
	if err := raw.Control(func(v uintptr) { fd, fault = unix.FcntlInt(v, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || fault != nil {
		return nil, fmt.Errorf("copy %s: %w", name, errors.Join(err, fault))
	}
	return handoff.NewFile(fd, name), nil
}

// Names are the names of the files that nobody has taken.
func (in *Files) Names() []string {
	if in == nil {
		return nil
	}
	names := make([]string, len(in.files))
	for i, f := range in.files {
		names[i] = f.Name()
	}
	return names
}

// Close closes what nobody has taken.
func (in *Files) Close() error {
	if in == nil {
		return nil
	}
	var faults []error
	for _, f := range in.files {
		faults = append(faults, f.Close())
	}
	in.files = nil
	return errors.Join(faults...)
}

// Exec replaces this process by the program at path, which inherits the files under
// their keys. It returns only when that fails; then nothing has changed. env is the
// environment without EnvFiles.
func Exec(path string, args, env []string, files map[string]*os.File) error {
	fds := make([]int, 0, len(files))
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd) // a copy
		}
	}()
	entries := make([]string, 0, len(files))
	for name, f := range files {
		raw, err := f.SyscallConn()
		if err != nil {
			return fmt.Errorf("pass %s on: %w", name, err)
		}
		var fd int
		var fault error
		// The copy is not closed on exec.
		if err := raw.Control(func(v uintptr) { fd, fault = unix.FcntlInt(v, unix.F_DUPFD, unix.Stderr+1) }); err != nil || fault != nil {
			return fmt.Errorf("pass %s on: %w", name, errors.Join(err, fault))
		}
		fds = append(fds, fd)
		entries = append(entries, name+"="+strconv.Itoa(fd))
	}
	slices.Sort(entries)
	env = append(slices.Clone(env), EnvFiles+"="+strings.Join(entries, ","))
	return fmt.Errorf("replace the process by %s: %w", path, unix.Exec(path, args, env))
}
