package process

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/dspeak/sfu/internal/errs"
)

// TestCheckProgram tells a file that is no worker, which an operator must change, from what
// passes: a service manager must start the supervisor again after that.
func TestCheckProgram(t *testing.T) {
	for mode, want := range map[string]error{
		modeGood: nil, modeSilent: errs.ErrInvalid, modeFaults: errs.ErrInvalid, modeStrange: errs.ErrInvalid,
		modeKilled: errs.ErrUnavailable, modeMute: errs.ErrUnavailable,
	} {
		t.Run(mode, func(t *testing.T) {
			p := &Pool{log: slog.New(slog.DiscardHandler), startTimeout: 10 * time.Second}
			if mode == modeMute {
				p.startTimeout = 200 * time.Millisecond
			}
			p.start = func(cmd *exec.Cmd, _ int) error {
				cmd.Env = []string{childMode + "=" + mode}
				return cmd.Start()
			}
			wantKind(t, p.checkProgram(t.Context(), os.Args[0]), want)
		})
	}
}

// TestProgramThatIsBeingWritten may be started once that is over.
func TestProgramThatIsBeingWritten(t *testing.T) {
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "worker"), os.O_CREATE|os.O_WRONLY, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	wantKind(t, CheckProgram(t.Context(), f.Name()), errs.ErrUnavailable)
}

// wantKind wants an error of one of the two kinds, and not of both.
func wantKind(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || errors.Is(err, errs.ErrInvalid) && errors.Is(err, errs.ErrUnavailable) {
		t.Fatalf("got %v, want %v", err, want)
	}
}
