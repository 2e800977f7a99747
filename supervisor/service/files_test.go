package service

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

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
