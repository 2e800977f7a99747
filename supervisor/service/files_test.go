package service

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

// envStage makes the test binary a process that replaces itself once.
const envStage = "SERVICE_TEST_STAGE"

func TestMain(m *testing.M) {
	switch os.Getenv(envStage) {
	case "first":
		first()
	case "second":
		second()
	case "guarded":
		guarded()
	default:
		os.Exit(m.Run())
	}
}

// first opens a listener and goes on as second.
func first() {
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		fatal(err)
	}
	f, err := listener.File()
	if err != nil {
		fatal(err)
	}
	fmt.Println(os.Getpid(), listener.Addr())
	env := append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, envStage) }), envStage+"=second")
	fatal(Exec("/proc/self/exe", os.Args, env, map[string]*os.File{"http": f}))
}

// second tells where the inherited listener listens.
func second() {
	in, err := Inherited(os.Getenv(EnvFiles))
	if err != nil {
		fatal(err)
	}
	f := in.Take("http")
	if f == nil || in.Take("http") != nil || len(in.Names()) != 0 {
		fatal(fmt.Errorf("inherited %v", in.Names()))
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		fatal(fmt.Errorf("flags %d, %w", flags, err))
	}
	listener, err := net.FileListener(f)
	if err != nil {
		fatal(err)
	}
	fmt.Println(os.Getpid(), listener.Addr())
}

// guarded replaces itself by a program that finds itself to be no good, and tells of
// each start.
func guarded() {
	in, err := Inherited(os.Getenv(EnvFiles))
	if err != nil {
		fatal(err)
	}
	self, err := NewSelf()
	if err != nil {
		fatal(err)
	}
	guard, err := NewGuard(self, in, time.Minute)
	if err != nil {
		fatal(err)
	}
	fmt.Println(os.Getpid(), self.Replacements, self.RolledBack, guard != nil, in.Names())
	if self.Replacements == 0 {
		fatal(self.Replace(map[string]*os.File{"kept": os.Stderr}))
	}
	if self.RolledBack == "" {
		fatal(guard.GoBack(errors.New("no\ngood")))
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func TestAProcessReplacesItselfAndKeepsItsListener(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), envStage+"=first")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 2 || lines[0] != lines[1] {
		t.Fatalf("before and after: %q", lines)
	}
}

func TestGuardGoesBackToTheFormerProgram(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), envStage+"=guarded")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(cmd.Process.Pid)
	want := []string{pid + " 0  false []", pid + " 1  true [kept]", pid + " 2 no; good false [kept]"}
	if lines := strings.Split(strings.TrimSpace(string(out)), "\n"); !slices.Equal(lines, want) {
		t.Fatalf("starts %q, want %q", lines, want)
	}
}

func TestGuardWithoutAWayBack(t *testing.T) {
	reason := errors.New("no good")
	var none *Guard
	none.Disarm()
	if err := none.GoBack(reason); !errors.Is(err, reason) {
		t.Errorf("without a guard: %v", err)
	}
	former, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	files, err := FilesOf(map[string]*os.File{fileFormer: former, "kept": former})
	if err != nil {
		t.Fatal(err)
	}
	g, err := NewGuard(&Self{}, files, time.Hour)
	if err != nil || g == nil {
		t.Fatal(err)
	}
	g.Disarm()
	if err := g.GoBack(reason); !errors.Is(err, reason) || g.GoBack(nil) != nil {
		t.Errorf("disarmed: %v", err)
	}
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	if err := former.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestCheckOfAProgram(t *testing.T) {
	self := &Self{Path: "/bin/sh", Args: []string{"sh", "-c", `test "$1" = --check && echo no; exit 3`, "sh"}}
	if err := self.Check(t.Context(), "--check"); !errors.Is(err, errs.ErrInvalid) || !strings.Contains(err.Error(), "no") {
		t.Errorf("a program that fails its check: %v", err)
	}
	self.Args = []string{"sh", "-c", "exit 0", "sh"}
	if err := self.Check(t.Context(), "--check"); err != nil {
		t.Error(err)
	}
}

func TestExecThatFailsChangesNothing(t *testing.T) {
	before := descriptors(t)
	err := Exec(t.TempDir(), nil, nil, map[string]*os.File{"stderr": os.Stderr})
	if !errors.Is(err, unix.EACCES) {
		t.Fatalf("got %v", err)
	}
	if after := descriptors(t); after != before {
		t.Fatalf("%d descriptors before, %d after", before, after)
	}
}

func TestFilesOfSystemd(t *testing.T) {
	t.Setenv("LISTEN_PID", "1") // another process's
	t.Setenv("LISTEN_FDS", "3")
	in, err := Inherited("")
	if err != nil || len(in.Names()) != 0 || os.Getenv("LISTEN_FDS") != "" {
		t.Fatalf("%v, %v, LISTEN_FDS %q", in.Names(), err, os.Getenv("LISTEN_FDS"))
	}
}

func TestMalformedInheritanceIsRefused(t *testing.T) {
	for _, value := range []string{"http", "http=", "=7", "http=1", "http=x", "http=-4", "http=100000"} {
		if in, err := Inherited(value); !errors.Is(err, errs.ErrInvalid) {
			t.Errorf("%q: %v, %v", value, in.Names(), err)
		}
	}
	var none *Files
	if none.Take("x") != nil || none.Names() != nil || none.Close() != nil {
		t.Fatal("no files are something")
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("the system does not tell its descriptors")
	}
	return len(entries)
}
