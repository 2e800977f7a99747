package load

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

// FloorCommand is the argument with which loadgen starts itself to call ServeFloor.
const FloorCommand = "floor-child"

const (
	// floorBatch is how many datagrams one system call of the floor sends.
	floorBatch = 128
	// floorMinimum is the smallest datagram of the floor: it holds the send time.
	floorMinimum = 8
	// floorInput bounds what the floor's process reads from its parent, in bytes.
	floorInput = 16 << 20
)

// What parent and child of the floor tell each other, one JSON value each: the
// parent sets up, the child answers with its address, the parent names the
// targets; then each window is answered by a result.
type (
	floorSetup struct {
		Config Config
		// Bind is the address to send from.
		Bind netip.Addr
	}
	floorBound struct {
		Address netip.AddrPort
	}
	floorTargets struct {
		// Ports are those of the hearing users, channel by channel, at the bound address.
		Ports []uint16
	}
	floorWindow struct {
		// Start is when the window's first slot begins, by CLOCK_MONOTONIC in nanoseconds.
		Start int64
		// Overhead is what a datagram has more than its payload, in bytes.
		Overhead int
	}
	floorResult struct {
		Sent, Refused uint64
		// Late is the longest that a packet was sent after its time.
		Late time.Duration
	}
)

// floorSender sends each packet to each hearer with the fewest means: one
// unconnected socket and sendmmsg. It belongs to the goroutine of ServeFloor.
type floorSender struct {
	fd     int
	cfg    Config
	rhythm *rhythm
	clock  clock
	// names are the socket addresses of the hearing users, those of a channel together.
	names   []unix.RawSockaddrInet6
	nameLen uint32
	// hearing is how many users hear in each channel.
	hearing  int
	packet   [datagramSize]byte
	iovec    unix.Iovec
	messages [floorBatch]mmsghdr
	result   floorResult
}

// ServeFloor is the work of the floor's process, which loadgen starts of itself:
// it measures what merely sending the packets costs. It reads its orders from in
// and answers on out, and returns nil at the end of in. It blocks its thread in
// raw system calls.
func ServeFloor(in io.Reader, out io.Writer) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	orders, answers := json.NewDecoder(io.LimitReader(in, floorInput)), json.NewEncoder(out)
	f, err := setUpFloor(orders, answers)
	if err != nil {
		return err
	}
	err = f.serve(orders, answers)
	return errors.Join(err, unix.Close(f.fd))
}

func setUpFloor(orders *json.Decoder, answers *json.Encoder) (*floorSender, error) {
	var setup floorSetup
	if err := orders.Decode(&setup); err != nil {
		return nil, fmt.Errorf("read floor's setup: %w", err)
	}
	if err := setup.Config.Validate(); err != nil {
		return nil, err
	}
	clock, err := newClock()
	if err != nil {
		return nil, fmt.Errorf("read clock: %w", err)
	}
	fd, err := openUDP(netip.AddrPortFrom(setup.Bind, 0), 0)
	if err != nil {
		return nil, err
	}
	f := &floorSender{fd: fd, cfg: setup.Config, rhythm: newRhythm(setup.Config), clock: clock}
	f.rhythm.skip(setup.Config.warmupPackets())
	f.hearing = setup.Config.hearing()
	bound, err := localAddress(fd)
	if err == nil {
		err = answers.Encode(floorBound{Address: bound})
	}
	var targets floorTargets
	if err == nil {
		err = orders.Decode(&targets)
	}
	if err == nil && len(targets.Ports) != f.cfg.Channels*f.hearing {
		err = fmt.Errorf("%d targets for %d hearing users: %w", len(targets.Ports), f.cfg.Channels*f.hearing, errs.ErrInvalid)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up floor: %w", err), unix.Close(fd))
	}
	f.prepare(setup.Bind, targets.Ports)
	return f, nil
}

// prepare fills in all that is the same for every packet.
func (f *floorSender) prepare(to netip.Addr, ports []uint16) {
	f.iovec.Base = &f.packet[0]
	for _, port := range ports {
		name, length := rawAddress(netip.AddrPortFrom(to, port))
		f.names, f.nameLen = append(f.names, name), length
	}
	for i := range f.messages {
		h := &f.messages[i].header
		h.Iov, h.Namelen = &f.iovec, f.nameLen
		h.SetIovlen(1)
	}
}

func (f *floorSender) serve(orders *json.Decoder, answers *json.Encoder) error {
	for {
		var window floorWindow
		switch err := orders.Decode(&window); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read floor's window: %w", err)
		case window.Overhead < 0 || window.Overhead > maxOverhead:
			return fmt.Errorf("overhead of %d bytes: %w", window.Overhead, errs.ErrInvalid)
		}
		f.result = floorResult{}
		err := f.rhythm.play(window.Start, f.cfg.windowPackets(), func(b beat) error {
			for f.clock.now() < b.due {
				sleep(b.due)
			}
			f.result.Late = max(f.result.Late, time.Duration(f.clock.now()-b.due))
			f.send(b.speaker, max(floorMinimum, b.size+window.Overhead))
			return nil
		})
		if err != nil {
			return err
		}
		if err := answers.Encode(f.result); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

// send sends one datagram of the size to each who hears the speaker.
func (f *floorSender) send(speaker, size int) {
	binary.NativeEndian.PutUint64(f.packet[:], uint64(time.Now().UnixNano()))
	f.iovec.SetLen(size)
	channel, place := speaker/f.cfg.Speakers, speaker%f.cfg.Speakers
	own := -1
	if f.cfg.SpeakersListen {
		own = channel*f.hearing + place // speakers come first in their channel
	}
	pending := 0
	for i := channel * f.hearing; i < (channel+1)*f.hearing; i++ {
		if i == own {
			continue
		}
		f.messages[pending].header.Name = (*byte)(unsafe.Pointer(&f.names[i]))
		if pending++; pending == floorBatch {
			f.flush(pending)
			pending = 0
		}
	}
	f.flush(pending)
}

// flush sends the first n messages. One that the kernel refuses is passed over.
func (f *floorSender) flush(n int) {
	for from := 0; from < n; {
		done, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, uintptr(f.fd), uintptr(unsafe.Pointer(&f.messages[from])),
			uintptr(n-from), 0, 0, 0)
		switch errno {
		case 0:
			f.result.Sent += uint64(done)
			from += int(done)
		case unix.EINTR:
		default:
			f.result.Refused++
			from++
		}
	}
}
