package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/lapse"
)

// Environment variables of a process that replaced another.
const (
	envReplacements = "SFU_REPLACEMENTS"
	envRolledBack   = "SFU_ROLLED_BACK"
)

// fileFormer is the program of the process that was replaced, among inherited files.
const fileFormer = "former"

const (
	// checkTimeout bounds the trial of a program.
	checkTimeout = 10 * time.Second
	// maxShownBytes bounds what is told of a program's output.
	maxShownBytes = 1000
)

// Self is how this process was started, and how it replaces itself.
type Self struct {
	// Path is where the program's file was when the process started.
	Path string
	// Args and Env are those of the process; Env without what this package adds.
	Args, Env []string
	// Replacements counts how often the process has replaced itself.
	Replacements int
	// RolledBack is why the last replacement was undone; empty: it was not.
	RolledBack string
	// Flush writes what waits to be logged, before another program takes the process
	// over; nil: nothing waits.
	Flush func()
}

func (s *Self) flush() {
	if s.Flush != nil {
		s.Flush()
	}
}

// NewSelf reads the process's own start.
func NewSelf() (*Self, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the own program: %w", err)
	}
	s := &Self{Path: path, Args: os.Args, RolledBack: os.Getenv(envRolledBack)}
	if text := os.Getenv(envReplacements); text != "" {
		if s.Replacements, err = strconv.Atoi(text); err != nil || s.Replacements < 0 {
			return nil, fmt.Errorf("%s=%q is no count: %w", envReplacements, text, errs.ErrInvalid)
		}
	}
	s.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return name == EnvFiles || name == envReplacements || name == envRolledBack
	})
	return s, nil
}

// Check tries whether the program on disk starts and accepts the settings of this
// process: it is run with its arguments and the flag that only checks.
func (s *Self) Check(ctx context.Context, flag string) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.Path, append(slices.Clone(s.Args[1:]), flag)...) //nolint:gosec // the operator's own program
	cmd.Env = s.Env
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		text := strings.TrimSpace(string(out[:min(len(out), maxShownBytes)]))
		return fmt.Errorf("%s fails its check: %w: %s: %w", s.Path, err, strings.ReplaceAll(text, "\n", "; "), errs.ErrInvalid)
	}
	return nil
}

// Replace makes the program on disk go on as this process, with the files under their
// names and a way back to this program. It returns only when that fails, which counts
// as a replacement that was undone.
func (s *Self) Replace(files map[string]*os.File) error {
	err := s.replace(files)
	s.Replacements++
	s.RolledBack = err.Error()
	return err
}

func (s *Self) replace(files map[string]*os.File) error {
	former, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("keep the own program: %w", err)
	}
	defer func() { _ = former.Close() }()
	files[fileFormer] = former
	defer delete(files, fileFormer)
	env := append(slices.Clone(s.Env), envReplacements+"="+strconv.Itoa(s.Replacements+1))
	s.flush()
	return Exec(s.Path, s.Args, env, files)
}

// Guard goes back to the program that this process replaced, unless this one serves in
// time. A nil Guard does nothing.
type Guard struct {
	self  *Self
	timer *lapse.Timer

	mu     sync.Mutex
	former *os.File            // guarded by mu; nil: disarmed
	files  map[string]*os.File // guarded by mu: copies
}

// NewGuard arms a guard if the files are those of a process that was replaced: nil if
// not. It goes back by itself after the limit.
func NewGuard(self *Self, files *Files, limit time.Duration) (*Guard, error) {
	former := files.Take(fileFormer)
	if former == nil {
		return nil, nil //nolint:nilnil // documented
	}
	copies, err := files.copies()
	if err != nil {
		return nil, errors.Join(err, former.Close())
	}
	g := &Guard{self: self, former: former, files: copies}
	g.timer = lapse.AfterFunc(limit, func() {
		if err := g.GoBack(fmt.Errorf("not ready within %v: %w", limit, errs.ErrUnavailable)); err != nil {
			fmt.Fprintln(os.Stderr, "supervisor:", err)
		}
	})
	return g, nil
}

// Disarm is called once this process serves: there is no way back any more.
func (g *Guard) Disarm() {
	if g == nil {
		return
	}
	g.timer.Stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closeLocked()
}

// GoBack makes the former program go on as this process for that reason. It returns the
// reason when there is no way back.
func (g *Guard) GoBack(reason error) error {
	if g == nil || reason == nil {
		return reason
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.former == nil {
		return reason
	}
	defer g.closeLocked()
	env := append(slices.Clone(g.self.Env), envReplacements+"="+strconv.Itoa(g.self.Replacements+1),
		envRolledBack+"="+strings.ReplaceAll(reason.Error(), "\n", "; "))
	raw, err := g.former.SyscallConn()
	if err != nil {
		return errors.Join(reason, err)
	}
	g.self.flush()
	fault := raw.Control(func(fd uintptr) {
		err = Exec("/proc/self/fd/"+strconv.Itoa(int(fd)), g.self.Args, env, g.files)
	})
	return errors.Join(reason, err, fault)
}

func (g *Guard) closeLocked() {
	if g.former == nil {
		return
	}
	_ = g.former.Close() // it was only read
	for _, f := range g.files {
		_ = f.Close() // a copy
	}
	g.former, g.files = nil, nil
}
