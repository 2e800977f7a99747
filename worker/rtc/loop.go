package rtc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/ledgerfile"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/worker/handshake"
	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/netio"
	"github.com/dspeak/sfu/worker/ortc"
	"github.com/dspeak/sfu/worker/stun"
)

const (
	// callsPerTurn bounds the mailbox entries of each kind run between two batches.
	callsPerTurn = 16
	// idleWait bounds every wait, so that the heartbeat moves when nothing happens.
	idleWait = 100 * time.Millisecond
	// readBuffer is the size of one receive buffer: more than any datagram that a
	// client may send over an Ethernet path.
	readBuffer = 1504
)

// Loop is the media loop of one worker.
type Loop struct {
	cfg          Config
	log          *slog.Logger
	ledger       *ledger.Ledger // the header is anybody's, the rest the goroutine's of Run
	resumed      Resumed
	keep         atomic.Bool // the end says no goodbyes and wipes nothing
	fingerprints []DtlsFingerprint
	cname        string // names this process as a receiver (RFC 3550 section 6.5.1)
	mail         *mailbox
	events       chan Event
	beat         atomic.Int64 // wall clock of the last turn, Unix ns
	clock        func() time.Time

	// Owned by the goroutine of Run, from here on.

	poller    *netio.Poller
	sources   netio.Sources
	pool      *handshake.Pool
	alerts    alertChecker
	udp       []*udpPort
	sockets   socketWatch
	listeners []*netio.TCPListener
	peers     tcpPeers
	table     objectTable
	timers    timers
	out       outbox
	pace      pacer
	now       instant   // of this turn
	oldSince  instant   // since when packets have been old when they were read; 0: they are not
	wall      int64     // Unix ns of this turn
	base      time.Time // instant 0
	inHand    uint64    // as in the ledger's header
	mac       *stun.MAC // of all transports' ICE passwords
	thread    int       // as the system numbers it; 0 where it does not tell
	rests     bool      // it may: see Sockets
	stirred   instant   // see stir
	drained   bool      // nothing was ready in the last turn in silence
	count     loopCounters
	logged    loopCounters // as of the last drop line
	scratch   scratch
	frameFn   func(*netio.TCPConn, []byte) // onFrame, bound once

	standstill standstill // the last one
}

// instant is a time on the clock of ledgerfile.Now, which runs on over processes, in
// nanoseconds. Zero means never.
type instant int64

// udpPort is a UDP socket of the loop with its receive buffers.
type udpPort struct {
	sock  netio.UDP
	index int       // in the poller, and in the keys of the tuple table
	aside netio.UDP // nil: there is none
	place int       // of aside in the poller
	batch []netio.Message
	// urgent holds answers to checks and handshakes, media everything else.
	urgent, media sendQueue
	full          bool // the socket: it is watched until it has room
}

// loopCounters are counts of the whole loop.
type loopCounters struct {
	received, sent, dropped uint64
	late                    uint64 // received, but too late to be forwarded
	padding                 uint64 // bytes added to payloads
	// Discarded, by cause.
	unknownSource, malformed, unknownUfrag, badIntegrity, eventsLost uint64
}

// New makes a loop and takes the sockets over. Errors wrap errs.ErrInvalid for
// settings; others come from the operating system. When it fails, the sockets stay open.
func New(cfg Config, s Sockets) (*Loop, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(s); err != nil {
		return nil, fmt.Errorf("media loop: %w", err)
	}
	prints, err := handshake.FingerprintsOf(cfg.Certificate)
	if err != nil {
		return nil, fmt.Errorf("media loop certificate: %w", err)
	}
	poller, err := netio.NewPoller()
	if err != nil {
		return nil, fmt.Errorf("media loop: %w", err)
	}
	pool, err := handshake.NewPool(handshake.Config{
		Certificate: cfg.Certificate, Concurrency: cfg.HandshakeConcurrency, Timeout: cfg.HandshakeTimeout,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("media loop: %w", err), poller.Close())
	}
	l := &Loop{
		cfg: cfg, log: cfg.Log, poller: poller, pool: pool,
		mail:   newMailbox(poller.Wake),
		events: make(chan Event, eventQueue),
		clock:  time.Now,
		table:  newObjectTable(),
		peers:  newTCPPeers(),
		mac:    stun.NewMAC(),
		alerts: newAlertChecker(),
		pace:   pacer{maxWait: cfg.MaxWait, padding: cfg.Padding},
		ledger: cfg.Ledger, standstill: standstill{from: standstillFrom},
	}
	if l.ledger == nil {
		l.ledger = ledger.Private()
	}
	if l.cname = l.ledger.Root().CName.String(); l.cname == "" {
		l.cname = rand.Text()
		l.ledger.Root().CName.Set(l.cname)
	}
	for _, f := range prints {
		l.fingerprints = append(l.fingerprints, DtlsFingerprint{Algorithm: f.Algorithm, Value: f.Value})
	}
	if l.out.ring, err = newSendRing(cfg.SendRingBytes); err == nil {
		err = l.addSockets(s)
	}
	if err != nil {
		pool.Close()
		return nil, errors.Join(fmt.Errorf("media loop: %w", err), poller.Close())
	}
	l.frameFn = l.onFrame
	l.base = clockBase(l.clock())
	l.readClock()
	l.resume()
	return l, nil
}

// clockBase is the time at which the clock of ledgerfile.Now stood at 0. Where there is
// no such clock, no instant in use is 0.
func clockBase(now time.Time) time.Time {
	return now.Add(-max(time.Duration(ledgerfile.Now()), time.Second))
}

func (l *Loop) addSockets(s Sockets) error {
	l.sockets.counters = s.Counters
	for _, sock := range s.UDP {
		index, err := l.poller.AddUDP(sock)
		if err != nil {
			return err
		}
		port := &udpPort{sock: sock, index: index, batch: make([]netio.Message, l.cfg.BatchLimit)}
		arena := make([]byte, l.cfg.BatchLimit*readBuffer)
		for i := range port.batch {
			port.batch[i].Buf = arena[i*readBuffer : (i+1)*readBuffer : (i+1)*readBuffer]
		}
		l.udp = append(l.udp, port)
	}
	if err := l.addAsides(s); err != nil {
		return err
	}
	for _, listener := range s.TCP {
		if err := l.poller.AddListener(listener); err != nil {
			return err
		}
		l.listeners = append(l.listeners, listener)
	}
	return nil
}

// Urgently runs fn on a thread of its own that has the priority of the media loop: what
// a successor does before its first turn is waited for alike.
func Urgently(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		_ = raisePriority()    // Run tells when it is not allowed
		fn()
	}()
	<-done
}

// Run turns the loop until ctx ends, on a locked thread of raised priority, and
// returns after everything is closed, the sockets too. The only error is a broken
// poller. It may be called once, on a goroutine of its own: the thread ends with it.
func (l *Loop) Run(ctx context.Context) error {
	runtime.LockOSThread() // for good: no other goroutine shall inherit the priority
	if err := raisePriority(); err != nil {
		l.log.Info("media loop runs at normal priority", obs.Err(err))
	}
	_ = nameThread("media") // only looks depend on it
	l.thread = threadID()
	l.ledger.Header().SetLoopThread(l.thread)
	stop := context.AfterFunc(ctx, l.mail.nudge)
	var checker sync.WaitGroup
	checker.Go(l.alerts.run)
	var err error
	for ctx.Err() == nil && err == nil {
		err = l.turn()
	}
	stop()
	if err != nil {
		l.keep.Store(true) // as after a crash: a successor may do better
	}
	err = errors.Join(err, l.shutdown())
	l.alerts.close()
	checker.Wait()
	l.sources.Close()
	return errors.Join(err, l.poller.Close())
}

// Keep makes the end of Run one that a successor goes on from: no client is told
// anything, and the ledger stays as it is. Any goroutine, before Run's context ends.
func (l *Loop) Keep() { l.keep.Store(true) }

// LastTurn is when the loop last turned. It turns at least every 100 ms. Any goroutine.
func (l *Loop) LastTurn() time.Time { return time.Unix(0, l.beat.Load()) }

// turn waits once and handles what came.
func (l *Loop) turn() error {
	began, idle := l.now, instant(l.clock().Sub(l.base))
	ready, err := l.wait()
	l.readClock()
	l.noteTurn(time.Duration(l.now - began))
	l.pace.turn(time.Duration(l.now-began), time.Duration(l.now-idle))
	l.out.padTo = l.pace.padTo()
	if err != nil {
		return fmt.Errorf("media loop wait: %w", err)
	}
	for _, port := range l.udp {
		if ready.Writable&(1<<port.index) != 0 {
			l.flushPort(port)
		}
		// A check comes before what it allows.
		if port.aside != nil && ready.Readable&(1<<port.place) != 0 {
			l.readUDP(port, port.aside)
		}
		if ready.Readable&(1<<port.index) != 0 {
			l.readUDP(port, port.sock)
		}
	}
	if ready.TCP {
		l.readTCP()
	}
	l.timers.moreCalls = l.mail.run(callsPerTurn)
	l.runTimers()
	l.flushIfDue()
	l.putDown()
	l.releaseSilent()
	return nil
}

// readClock takes the time of this turn.
func (l *Loop) readClock() {
	t := l.clock()
	l.now = instant(t.Sub(l.base))
	l.wall = t.UnixNano()
	l.beat.Store(l.wall)
	l.ledger.Header().BeatLoop(int64(l.now))
}

// waitTime is how long the next wait may take.
func (l *Loop) waitTime() time.Duration {
	if l.timers.moreCalls {
		return 0
	}
	wait := idleWait
	if next := l.timers.next(len(l.table.list)); next != 0 {
		wait = min(wait, time.Duration(next-l.now))
	}
	if l.out.due != 0 {
		wait = min(wait, time.Duration(l.out.due-l.now))
	}
	return max(wait, 0)
}

// shutdown closes everything that the loop owns.
func (l *Loop) shutdown() error {
	l.mail.close()
	if !l.keep.Load() {
		for _, r := range l.table.routers {
			l.destroyRouter(r)
		}
	}
	l.flush()
	l.pool.Close()
	var errList []error
	for _, peer := range l.peers.all {
		errList = append(errList, peer.conn.Close())
	}
	for _, listener := range l.listeners {
		errList = append(errList, listener.Close())
	}
	for _, port := range l.udp {
		errList = append(errList, port.close())
	}
	close(l.events)
	return errors.Join(errList...)
}

// objectTable finds every object by its name, and transports by what packets say.
type objectTable struct {
	routers    map[ident.RouterID]*router
	transports map[ident.TransportID]*transport
	producers  map[ident.ProducerID]*producer
	consumers  map[ident.ConsumerID]*consumer
	sent       map[sentStream]*consumer
	ufrags     map[string]*transport
	tuples     map[tupleKey]claim
	list       []*transport         // every transport, for the sweep
	caps       ortc.RtpCapabilities // of every router; nobody changes them
}

// sentStream is what RTCP names a consumer by.
type sentStream struct {
	to   *transport
	ssrc uint32
}

func newObjectTable() objectTable {
	return objectTable{
		routers:    map[ident.RouterID]*router{},
		transports: map[ident.TransportID]*transport{},
		producers:  map[ident.ProducerID]*producer{},
		consumers:  map[ident.ConsumerID]*consumer{},
		sent:       map[sentStream]*consumer{},
		ufrags:     map[string]*transport{},
		tuples:     map[tupleKey]claim{},
		caps:       ortc.RouterRtpCapabilities(),
	}
}

// checkID refuses empty and oversized names.
func checkID(what string, id string) error {
	if id == "" || len(id) > 128 {
		return fmt.Errorf("%s id %q: %w", what, id[:min(len(id), 32)], errs.ErrInvalid)
	}
	return nil
}
