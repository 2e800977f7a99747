package supervisor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

func mkdir(t *testing.T, mode fs.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	chmod(t, path, mode)
	return path
}

func chmod(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func touch(t *testing.T, parts ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(parts...), []byte("foreign"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// leftSocket leaves a socket that nobody listens on, as a killed process does.
func leftSocket(t *testing.T, parts ...string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(parts...)}); err != nil {
		t.Fatal(err)
	}
}

func modeOf(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func names(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	list := make([]string, len(entries))
	for i, e := range entries {
		list[i] = e.Name()
	}
	return list
}

// TestRunDirectoryOfOthers is refused and stays as it is.
func TestRunDirectoryOfOthers(t *testing.T) {
	const other = 54321
	asRoot := os.Geteuid() == 0
	for name, row := range map[string]struct {
		make func(t *testing.T) string
		says string
		root bool
	}{
		"others may write":     {func(t *testing.T) string { t.Helper(); return mkdir(t, 0o777) }, "open to other users", false},
		"a group may write":    {func(t *testing.T) string { t.Helper(); return mkdir(t, 0o770) }, "open to other users", false},
		"a shared one, sticky": {func(t *testing.T) string { t.Helper(); return mkdir(t, 0o777|fs.ModeSticky) }, "open to other users", false},
		"others may look, and it holds a file": {func(t *testing.T) string {
			t.Helper()
			path := mkdir(t, 0o755)
			touch(t, path, "theirs")
			return path
		}, "theirs", false},
		"others may look, and it holds a socket": {func(t *testing.T) string {
			t.Helper()
			path := mkdir(t, 0o711)
			leftSocket(t, path, "foreign.sock")
			return path
		}, "foreign.sock", false},
		"a file": {func(t *testing.T) string {
			t.Helper()
			path := filepath.Join(t.TempDir(), "run")
			touch(t, path)
			return path
		}, "no directory", false},
		"a link to nothing": {func(t *testing.T) string {
			t.Helper()
			path := filepath.Join(t.TempDir(), "run")
			if err := os.Symlink(path+"-none", path); err != nil {
				t.Fatal(err)
			}
			return path
		}, "run", false},
		"a link to a shared one": {func(t *testing.T) string {
			t.Helper()
			path := filepath.Join(t.TempDir(), "link")
			if err := os.Symlink(mkdir(t, 0o777), path); err != nil {
				t.Fatal(err)
			}
			return path
		}, "open to other users", false},
		"below a file": {func(t *testing.T) string {
			t.Helper()
			path := filepath.Join(t.TempDir(), "file")
			touch(t, path)
			return filepath.Join(path, "run")
		}, "DSPEAK_RUN_DIR", false},
		"another user's": {func(t *testing.T) string {
			t.Helper()
			path := mkdir(t, 0o700)
			return path + chown(t, path, other)
		}, "belongs to user 54321", true},
		"another user's link": {func(t *testing.T) string {
			t.Helper()
			path := filepath.Join(t.TempDir(), "link")
			if err := os.Symlink(mkdir(t, 0o700), path); err != nil {
				t.Fatal(err)
			}
			return path + chown(t, path, other)
		}, "symbolic link of user 54321", true},
		"a directory named like the lock": {func(t *testing.T) string {
			t.Helper()
			path := mkdir(t, 0o700)
			if err := os.Mkdir(filepath.Join(path, lockName), 0o700); err != nil {
				t.Fatal(err)
			}
			return path
		}, "lock", false},
		"a link named like the lock": {func(t *testing.T) string {
			t.Helper()
			path := mkdir(t, 0o700)
			if err := os.Symlink("/etc/passwd", filepath.Join(path, lockName)); err != nil {
				t.Fatal(err)
			}
			return path
		}, "lock", false},
		"a file named like a worker's socket": {func(t *testing.T) string {
			t.Helper()
			path := mkdir(t, 0o700)
			touch(t, path, "worker-0.sock")
			return path
		}, "worker-0.sock", false},
		"a file named like the operators' socket": {func(t *testing.T) string {
			t.Helper()
			path := mkdir(t, 0o700)
			touch(t, path, adminName)
			return path
		}, adminName, false},
	} {
		t.Run(name, func(t *testing.T) {
			if row.root && !asRoot {
				t.Skip("NOT TESTED: only root can make another user's directory")
			}
			path := row.make(t)
			before, _ := os.Stat(path)
			d, err := openRunDir(path, nil)
			if err == nil {
				t.Fatal("used", d.close())
			}
			if text := err.Error(); !strings.Contains(text, row.says) || !strings.Contains(text, "DSPEAK_RUN_DIR") {
				t.Errorf("says %q, want %q and the remedy", text, row.says)
			}
			after, _ := os.Stat(path)
			if (before == nil) != (after == nil) || before != nil && before.Mode() != after.Mode() {
				t.Errorf("was %v, is %v", before, after)
			}
		})
	}
}

func chown(t *testing.T, path string, user int) string {
	t.Helper()
	if err := os.Lchown(path, user, user); err != nil {
		t.Fatal(err)
	}
	return ""
}

// TestRunDirectoryThatServes is this user's alone in the end.
func TestRunDirectoryThatServes(t *testing.T) {
	for name, path := range map[string]string{
		"none yet":                 filepath.Join(t.TempDir(), "run"),
		"none, nor its parents":    filepath.Join(t.TempDir(), "a", "b", "run"),
		"a private one":            mkdir(t, 0o700),
		"an empty one":             mkdir(t, 0o755),
		"an empty one of a volume": mkdir(t, 0o711),
		"one that is read-only":    mkdir(t, 0o500),
	} {
		t.Run(name, func(t *testing.T) {
			_, missing := os.Stat(path)
			d, err := openRunDir(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if mode := modeOf(t, path); mode != 0o700 {
				t.Errorf("mode %#o", mode)
			}
			if err := d.close(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) != (missing != nil) {
				t.Errorf("afterwards: %v; before: %v", err, missing)
			}
		})
	}
	t.Run("one of a crashed supervisor whose mode the service manager set again", func(t *testing.T) {
		path := mkdir(t, 0o755)
		touch(t, path, lockName)
		leftSocket(t, path, adminName)
		leftSocket(t, path, "worker-0.sock")
		leftSocket(t, path, "worker-0.handoff")
		d, err := openRunDir(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if mode := modeOf(t, path); mode != 0o700 {
			t.Errorf("mode %#o", mode)
		}
		if err := d.close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRunDirectoryKeepsForeignFiles whatever their names look like.
func TestRunDirectoryKeepsForeignFiles(t *testing.T) {
	foreign := []string{
		"foreign.sock", "worker-.sock", "worker-00.sock", "worker-+1.sock", "worker-1025.sock", "worker-x.handoff", "worker-1.sock.sock",
		"xworker-1.sock", "worker-2.socket", "supervisor.sock2", "nats.sock", "a.handoff", "-1.sock", "worker--1.sock",
	}
	ownSockets := []string{adminName, "worker-0.sock", "worker-0.handoff", "worker-1024.sock", "worker-1024.handoff"}
	path := mkdir(t, 0o700)
	for _, name := range foreign {
		leftSocket(t, path, name)
	}
	touch(t, path, "notes.sock")
	touch(t, path, "worker-7.handoff.txt")
	foreign = append(foreign, "notes.sock", "worker-7.handoff.txt")
	d, err := openRunDir(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range ownSockets {
		leftSocket(t, path, name)
	}
	touch(t, path, "worker-3.sock") // somebody's, put there meanwhile
	foreign = append(foreign, "worker-3.sock")
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(foreign)
	if got := names(t, path); !slices.Equal(got, foreign) {
		t.Errorf("left: %v\nwant: %v", got, foreign)
	}
}

// TestRunDirectoryOfACrash is removed by the supervisor that follows if one made it.
func TestRunDirectoryOfACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run")
	d, err := openRunDir(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.leave(); err != nil {
		t.Fatal(err)
	}
	again, err := openRunDir(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory stays: %v", err)
	}
}

// TestRunDirectoryRemovedMeanwhile is made anew for workers that start, and for a
// successor, which locks it again.
func TestRunDirectoryRemovedMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run")
	d, err := openRunDir(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.restore(); err != nil {
		t.Errorf("nothing to restore: %v", err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := d.restore(); !errors.Is(err, errs.ErrNotFound) || modeOf(t, path) != 0o700 {
		t.Errorf("restored with %v", err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	successor, err := openRunDir(path, d.lock)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openRunDir(path, nil); !errors.Is(err, errs.ErrExists) {
		t.Errorf("a second supervisor: %v", err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := successor.close(); err != nil {
		t.Errorf("closed after the removal: %v", err)
	}
}
