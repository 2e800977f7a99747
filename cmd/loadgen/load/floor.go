package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

// maxOverhead bounds what a datagram has more than its payload, in bytes.
const maxOverhead = 256

// floor is the parent's side of the bare sending loop. The pacer's goroutine owns it.
type floor struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	orders  *json.Encoder
	answers *json.Decoder
	stderr  strings.Builder
}

// floorOptions describe a floor to be started.
type floorOptions struct {
	cfg Config
	// command is the program that calls ServeFloor, and its arguments.
	command []string
	// bind is the address of the machine's own that packets go from and to.
	bind   netip.Addr
	engine *engine
}

// startFloor starts the process on the CPUs of the measured one and opens as many
// receiving sockets as there are hearing users; the engine reads and closes them.
// The process ends with the context, with close, or with this process.
func startFloor(ctx context.Context, o floorOptions) (*floor, error) {
	f := &floor{cmd: exec.CommandContext(ctx, o.command[0], o.command[1:]...)} //nolint:gosec // this program itself
	// The runtime must not interrupt the loop's long sleeps, nor collect in them.
	f.cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1", "GOGC=off")
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	f.cmd.Stderr = &f.stderr
	stdin, err := f.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("pipe to floor: %w", err)
	}
	stdout, err := f.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("pipe from floor: %w", err)
	}
	f.stdin, f.orders, f.answers = stdin, json.NewEncoder(stdin), json.NewDecoder(stdout)
	if err := startPinned(f.cmd, o.cfg.PIDs[0]); err != nil {
		return nil, err
	}
	if err := f.connect(o); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// startPinned starts the command on the CPUs that the process may use.
func startPinned(cmd *exec.Cmd, pid int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var own, wanted unix.CPUSet
	if err := unix.SchedGetaffinity(0, &own); err != nil {
		return fmt.Errorf("read own affinity: %w", err)
	}
	if err := unix.SchedGetaffinity(pid, &wanted); err != nil {
		return fmt.Errorf("read affinity of process %d: %w", pid, err)
	}
	if err := unix.SchedSetaffinity(0, &wanted); err != nil {
		return fmt.Errorf("set affinity of floor: %w", err)
	}
	err := cmd.Start()
	if back := unix.SchedSetaffinity(0, &own); back != nil {
		err = errors.Join(err, fmt.Errorf("restore own affinity: %w", back))
	}
	return err
}

// connect exchanges addresses with the process.
func (f *floor) connect(o floorOptions) error {
	if err := f.orders.Encode(floorSetup{Config: o.cfg, Bind: o.bind}); err != nil {
		return fmt.Errorf("set up floor: %w", err)
	}
	var bound floorBound
	if err := f.answers.Decode(&bound); err != nil {
		return fmt.Errorf("await floor's address: %w", err)
	}
	var targets floorTargets
	for range o.cfg.Channels * o.cfg.hearing() {
		fd, err := dialUDP(bound.Address)
		if err != nil {
			return err
		}
		local, err := localAddress(fd)
		if err == nil {
			err = o.engine.add(&transport{fd: fd, floor: true})
		}
		if err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		targets.Ports = append(targets.Ports, local.Port())
	}
	if err := f.orders.Encode(targets); err != nil {
		return fmt.Errorf("name floor's targets: %w", err)
	}
	return nil
}

// window lets the process send one window and waits for its end.
func (f *floor) window(w floorWindow) (floorResult, error) {
	if w.Overhead < 0 || w.Overhead > maxOverhead {
		return floorResult{}, fmt.Errorf("packets are %d bytes longer than their payload: %w", w.Overhead, errs.ErrInvalid)
	}
	if err := f.orders.Encode(w); err != nil {
		return floorResult{}, fmt.Errorf("start floor's window: %w", err)
	}
	var result floorResult
	if err := f.answers.Decode(&result); err != nil {
		return floorResult{}, fmt.Errorf("await floor's window: %w", err)
	}
	return result, nil
}

// close ends the process and waits for it.
func (f *floor) close() error {
	_ = f.stdin.Close() // the process ends at the end of its input
	if err := f.cmd.Wait(); err != nil {
		return fmt.Errorf("floor: %w: %s", err, strings.TrimSpace(f.stderr.String()))
	}
	return nil
}
