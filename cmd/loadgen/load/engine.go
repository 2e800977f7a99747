package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/pion/rtcp"
	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/worker/handshake"
)

const (
	maxDescriptors = 1 << 16
	receiveBatch   = 32
	eventBatch     = 1024
	datagramSize   = 1600
	// authenticateEvery is how many packets of a transport pass between two whose
	// SRTP protection is checked in full; the others are counted by their header.
	authenticateEvery = 64
	// checkEvery is how often the engine looks for checks and reports that are due.
	checkEvery = 20 * time.Millisecond
	// napTime is how long the engine sleeps after reading what there was. Packets
	// meanwhile cost no wake-up, which on one machine the sender would pay for;
	// their arrival times are the kernel's.
	napTime = 500 * time.Microsecond
)

// engine receives for all transports on one goroutine and drives their checks.
type engine struct {
	epoll int
	dtls  *handshake.Pool
	// fingerprints are those of the certificate that all users share.
	fingerprints []fingerprint
	// table maps a descriptor to its transport.
	table []atomic.Pointer[transport]

	mu    sync.Mutex
	fresh []*transport // added and not served yet; guarded by mu

	writeErrors atomic.Uint64
	// The engine's counts, told after each turn of its loop.
	delivered, bytes, floorDelivered atomic.Uint64
	// windows is the pacer's.
	windows *windows
	// quiet stops the receiver reports; the conductor sets it.
	quiet atomic.Bool

	// thread is the id of the engine's thread; 0: it does not run yet.
	thread atomic.Int64

	// Owned by the engine's goroutine until it ended.
	clock           clock
	served          []served
	events          [eventBatch]unix.EpollEvent
	kernelDrops     uint64  // told by close
	tallies         []tally // by round
	malformed       uint64
	unknown         uint64
	unauthenticated uint64
	authenticated   uint64
	rtcp            uint64
	reports         RTCPCounts
	rtcpHeader      rtcp.Header
	random          *rand.Rand
	arena           [receiveBatch][datagramSize]byte
	control         [receiveBatch][64]byte
	iovecs          [receiveBatch]unix.Iovec
	headers         [receiveBatch]mmsghdr
	plain           []byte
}

// tally is what arrived of one round's packets.
type tally struct {
	delivered, bytes, floorDelivered uint64
	latency, floorLatency            *histogram
}

func newEngine(cfg Config) (*engine, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll: %w", err)
	}
	clock, err := newClock()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read clock: %w", err), unix.Close(epoll))
	}
	certificate, prints, err := handshake.NewCertificate()
	if err != nil {
		return nil, errors.Join(err, unix.Close(epoll))
	}
	pool, err := handshake.NewPool(handshake.Config{Certificate: certificate})
	if err != nil {
		return nil, errors.Join(err, unix.Close(epoll))
	}
	e := &engine{
		epoll: epoll, dtls: pool, clock: clock, windows: newWindows(cfg), plain: make([]byte, 0, datagramSize),
		random: rand.New(rand.NewPCG(seed, 1)), //nolint:gosec // repeatable, not secret
		table:  make([]atomic.Pointer[transport], maxDescriptors),
	}
	for range cfg.rounds() {
		t := tally{latency: newHistogram()}
		if cfg.Floor {
			t.floorLatency = newHistogram()
		}
		e.tallies = append(e.tallies, t)
	}
	for _, p := range prints {
		e.fingerprints = append(e.fingerprints, fingerprint{Algorithm: p.Algorithm, Value: p.Value})
	}
	for i := range e.headers {
		e.iovecs[i].Base = &e.arena[i][0]
		e.headers[i].header.Iov = &e.iovecs[i]
		e.headers[i].header.Iovlen = 1
		e.headers[i].header.Control = &e.control[i][0]
		e.headers[i].header.SetControllen(len(e.control[i]))
		e.iovecs[i].SetLen(datagramSize)
	}
	return e, nil
}

// add begins to serve a transport, whose descriptor is the engine's unless there
// is an error. Any goroutine may call it.
func (e *engine) add(t *transport) error {
	if t.fd >= maxDescriptors {
		return fmt.Errorf("descriptor %d: %w", t.fd, errs.ErrExhausted)
	}
	e.table[t.fd].Store(t)
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(t.fd)}
	if err := unix.EpollCtl(e.epoll, unix.EPOLL_CTL_ADD, t.fd, &event); err != nil {
		e.table[t.fd].Store(nil)
		return fmt.Errorf("watch descriptor %d: %w", t.fd, err)
	}
	e.mu.Lock()
	e.fresh = append(e.fresh, t)
	e.mu.Unlock()
	return nil
}

// run receives until the context ends, then closes every socket. It locks its
// goroutine to a thread, whose id is e.thread from then on.
func (e *engine) run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer raise(unix.SCHED_NORMAL)()
	e.thread.Store(int64(unix.Gettid()))
	var next int64
	for ctx.Err() == nil {
		n, err := e.wait()
		if err != nil {
			return errors.Join(err, e.close(ctx))
		}
		for i := range n {
			switch t := e.table[e.events[i].Fd].Load(); {
			case t == nil:
			case t.stream != nil:
				e.receiveStream(t)
			default:
				e.receive(t)
			}
		}
		e.tell()
		now := e.clock.now()
		if now >= next {
			e.checks(now)
			next = now + int64(checkEvery)
		}
		if n > 0 && n < len(e.events) {
			sleep(now + int64(napTime))
		}
	}
	return e.close(ctx)
}

// wait returns how many sockets have become readable, none after checkEvery. It
// is a raw system call, see sleep.
func (e *engine) wait() (int, error) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(e.epoll), uintptr(unsafe.Pointer(&e.events[0])),
		uintptr(len(e.events)), uintptr(checkEvery.Milliseconds()), 0, 0)
	if errno == 0 {
		return int(n), nil
	}
	if errno == unix.EINTR {
		return 0, nil
	}
	return 0, fmt.Errorf("wait for packets: %w", errno)
}

// tell publishes the counts.
func (e *engine) tell() {
	var sum tally
	for i := range e.tallies {
		sum.delivered += e.tallies[i].delivered
		sum.bytes += e.tallies[i].bytes
		sum.floorDelivered += e.tallies[i].floorDelivered
	}
	e.bytes.Store(sum.bytes)
	e.delivered.Store(sum.delivered)
	e.floorDelivered.Store(sum.floorDelivered)
}

// served is a transport with the times of what it must send, by CLOCK_MONOTONIC.
type served struct {
	transport         *transport
	check, nextReport int64
}

// welcome takes over the transports that were added.
func (e *engine) welcome(now int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, t := range e.fresh {
		e.served = append(e.served, served{transport: t, nextReport: now + e.reportIn()})
	}
	e.fresh = e.fresh[:0]
}

// checks sends the connectivity and consent checks and the reports that are due.
func (e *engine) checks(now int64) {
	e.welcome(now)
	e.served = slices.DeleteFunc(e.served, func(s served) bool { return s.transport.leaving.Load() && e.remove(s.transport) })
	for i := range e.served {
		s := &e.served[i]
		if s.transport.stream != nil {
			e.redial(s.transport, now)
		}
		if now >= s.check {
			s.check = now + int64(s.transport.checkDue())
		}
		if now >= s.nextReport {
			e.reportDue(s.transport)
			s.nextReport = now + e.reportIn()
		}
	}
}

// checkDue sends a check and returns the time until the next.
func (t *transport) checkDue() time.Duration {
	switch {
	case t.floor:
		return time.Hour
	case t.validated:
		t.check()
		return consentEvery
	}
	t.check()
	return firstCheckEvery
}

// reportDue sends a hearer's receiver reports, unless it hears nothing yet or all
// are quiet.
func (e *engine) reportDue(t *transport) {
	if !t.floor && !e.quiet.Load() && len(*t.pairs.Load()) > 0 && t.connectedNow() {
		e.report(t, time.Now())
	}
}

// remove ends one transport without a farewell: its user has closed it by
// signaling. It is true.
func (e *engine) remove(t *transport) bool {
	if t.handshake != nil {
		t.handshake.Close()
	}
	e.table[t.fd].Store(nil)
	if drops, err := socketDrops(t.fd); err == nil && t.stream == nil {
		e.kernelDrops += drops
	}
	_ = unix.Close(t.fd) // nothing is left to be written
	close(t.gone)
	return true
}

// close ends the handshakes, says farewell and closes the sockets. What adds transports must
// have ended.
func (e *engine) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewellTimeout)
	defer cancel()
	e.welcome(0)
	var faults []error
	for _, s := range e.served {
		if s.transport.handshake != nil {
			s.transport.handshake.Close()
		}
	}
	e.dtls.Close()
	for _, s := range e.served {
		if !s.transport.floor && s.transport.connectedNow() && s.transport.state != nil {
			faults = append(faults, farewell(ctx, s.transport.state, s.transport.bye))
		}
		drops, err := socketDrops(s.transport.fd)
		if s.transport.stream == nil { // of TCP, whose packets come again, they say nothing
			e.kernelDrops += drops
		}
		faults = append(faults, err, unix.Close(s.transport.fd))
	}
	return errors.Join(append(faults, unix.Close(e.epoll))...)
}
