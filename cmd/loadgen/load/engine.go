package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/pion/rtcp"
	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/worker/handshake"
)

const (
	maxDescriptors = 1 << 16
	receiveBatch   = 16
	datagramSize   = 1600
	// authenticateEvery is how many packets of a transport pass between two whose
	// SRTP protection is checked in full; the others are counted by their header.
	authenticateEvery = 64
)

// engine receives for all transports on one goroutine and drives their checks.
type engine struct {
	epoll int
	dtls  *handshake.Pool
	// fingerprints are those of the certificate that all users share.
	fingerprints []fingerprint
	// table maps a descriptor to its transport.
	table []atomic.Pointer[transport]

	mu         sync.Mutex
	transports []*transport // guarded by mu

	writeErrors atomic.Uint64
	// The engine's counts, told after each turn of its loop.
	delivered, bytes, floorDelivered atomic.Uint64
	// windows is the pacer's.
	windows *windows
	// quiet stops the receiver reports; the conductor sets it.
	quiet atomic.Bool

	// Owned by the engine's goroutine until it ended.
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
	certificate, prints, err := handshake.NewCertificate()
	if err != nil {
		return nil, errors.Join(err, unix.Close(epoll))
	}
	pool, err := handshake.NewPool(handshake.Config{Certificate: certificate})
	if err != nil {
		return nil, errors.Join(err, unix.Close(epoll))
	}
	e := &engine{
		epoll: epoll, dtls: pool, windows: newWindows(cfg), plain: make([]byte, 0, datagramSize),
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
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(t.fd)}
	if err := unix.EpollCtl(e.epoll, unix.EPOLL_CTL_ADD, t.fd, &event); err != nil {
		e.table[t.fd].Store(nil)
		return fmt.Errorf("watch descriptor %d: %w", t.fd, err)
	}
	e.mu.Lock()
	e.transports = append(e.transports, t)
	e.mu.Unlock()
	return nil
}

// run receives until the context ends, then closes every socket.
func (e *engine) run(ctx context.Context) error {
	events := make([]unix.EpollEvent, 256)
	next := time.Now()
	for ctx.Err() == nil {
		n, err := unix.EpollWait(e.epoll, events, 20)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for packets: %w", err)
		}
		for i := range max(n, 0) {
			if t := e.table[events[i].Fd].Load(); t != nil {
				e.receive(t)
			}
		}
		e.tell()
		if now := time.Now(); now.After(next) {
			e.checks(now)
			next = now.Add(20 * time.Millisecond)
		}
	}
	return e.close()
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

// checks sends the connectivity and consent checks and the reports that are due.
func (e *engine) checks(now time.Time) {
	e.mu.Lock()
	due := slices.Clone(e.transports)
	e.mu.Unlock()
	for _, t := range due {
		if t.floor {
			continue
		}
		if !now.Before(t.nextCheck) {
			t.nextCheck = now.Add(firstCheckEvery)
			if t.validated {
				t.nextCheck = now.Add(consentEvery)
			}
			t.check()
		}
		if !now.Before(t.nextReport) {
			e.reportDue(t, now)
		}
	}
}

// reportDue sends a hearer's receiver reports, unless it hears nothing yet or all
// are quiet, and sets the time of the next.
func (e *engine) reportDue(t *transport, now time.Time) {
	first := t.nextReport.IsZero()
	t.nextReport = now.Add(e.reportIn())
	if !first && !e.quiet.Load() && len(*t.pairs.Load()) > 0 && t.connectedNow() {
		e.report(t, now)
	}
}

func (e *engine) close() error {
	for _, t := range e.transports {
		if t.handshake != nil {
			t.handshake.Close()
		}
	}
	e.dtls.Close()
	var faults []error
	for _, t := range e.transports {
		faults = append(faults, unix.Close(t.fd))
	}
	return errors.Join(append(faults, unix.Close(e.epoll))...)
}

// receive reads one batch of a transport's socket.
func (e *engine) receive(t *transport) {
	for i := range e.headers {
		e.iovecs[i].SetLen(datagramSize)
		e.headers[i].header.SetControllen(len(e.control[i]))
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(t.fd), uintptr(unsafe.Pointer(&e.headers[0])), receiveBatch, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return // nothing there, or an ICMP error of the peer's end: the counts show it
	}
	for i := range int(n) {
		e.handle(t, e.arena[i][:e.headers[i].length], arrival(e.control[i][:e.headers[i].header.Controllen]))
	}
}

// arrival reads the kernel's SO_TIMESTAMPNS control message, in Unix nanoseconds.
func arrival(control []byte) int64 {
	if len(control) < unix.CmsgLen(16) {
		return time.Now().UnixNano()
	}
	data := control[unix.CmsgLen(0):]
	return int64(binary.NativeEndian.Uint64(data))*int64(time.Second) + int64(binary.NativeEndian.Uint64(data[8:]))
}

// handle sorts one datagram by its first byte (RFC 7983 section 7).
func (e *engine) handle(t *transport, datagram []byte, at int64) {
	switch {
	case t.floor:
		e.countFloor(datagram, at)
	case len(datagram) < 12:
		e.malformed++
	case datagram[0] < 4:
		t.answered(datagram)
	case datagram[0] >= 20 && datagram[0] < 64:
		if t.handshake != nil {
			t.handshake.Feed(datagram)
		}
	case datagram[1] >= 192 && datagram[1] <= 223: // RFC 5761 section 4
		e.handleRTCP(t, datagram, at)
	default:
		e.count(t, datagram, at)
	}
}

// count books one RTP packet by its clear header.
func (e *engine) count(t *transport, datagram []byte, at int64) {
	p := (*t.pairs.Load())[binary.BigEndian.Uint32(datagram[8:])]
	if p == nil {
		e.unknown++
		return
	}
	if p.reception.received%authenticateEvery == 0 && !e.authentic(t, datagram) {
		e.unauthenticated++
		return
	}
	timestamp := binary.BigEndian.Uint32(datagram[4:])
	p.reception.packet(binary.BigEndian.Uint16(datagram[2:]), timestamp, at)
	slot, ok := p.speaker.slot(timestamp)
	round, i, counted := e.windows.place(slot)
	if !ok || !counted {
		return // of the warm-up
	}
	if !p.mark(i) {
		p.duplicate++
		return
	}
	p.delivered++
	tally := &e.tallies[round]
	tally.delivered++
	tally.bytes += uint64(len(datagram))
	tally.latency.add(time.Duration(at - p.speaker.sentAt[i].Load()))
}

// countFloor books one packet of the bare sending loop.
func (e *engine) countFloor(datagram []byte, at int64) {
	round := e.windows.round()
	if round < 0 || len(datagram) < floorMinimum {
		e.malformed++
		return
	}
	tally := &e.tallies[round]
	tally.floorDelivered++
	tally.floorLatency.add(time.Duration(at - int64(binary.NativeEndian.Uint64(datagram))))
}

// authentic checks the SRTP protection of one packet.
func (e *engine) authentic(t *transport, datagram []byte) bool {
	if !t.connectedNow() {
		return false
	}
	_, err := t.incoming.DecryptRTP(e.plain[:0], datagram, &t.header)
	if err == nil {
		e.authenticated++
	}
	return err == nil
}
