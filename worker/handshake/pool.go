package handshake

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/lapse"
)

// Bounds of what one peer can make a handshake hold.
const (
	// feedSlots is how many datagrams wait for a running handshake.
	feedSlots = 32
	// earlySlots is how many wait for one whose turn has not come: a large
	// ClientHello, and a repetition.
	earlySlots = 4
	// maxDatagram is the largest datagram taken, in bytes.
	maxDatagram = 4 << 10
	// maxFed is how many bytes one handshake may take in all. A handshake with
	// many retransmissions stays far below; it bounds the reassembly buffers.
	maxFed = 128 << 10
)

// Pool runs handshakes. Its methods may be called from any goroutine.
type Pool struct {
	cfg Config

	mu      sync.Mutex
	closed  bool                    // guarded by mu
	live    int                     // handshakes that are not over; guarded by mu
	running int                     // worker goroutines; guarded by mu
	waiting []*Handshake            // in order of their start; guarded by mu
	active  map[*Handshake]struct{} // running ones; guarded by mu

	workers sync.WaitGroup
}

// phase is where a handshake stands:
//
//	idle -> waiting -> running -> over
//	  \________\__________\_______^   (Close)
type phase int32

const (
	idle phase = iota // server role, nothing received yet
	waiting
	running
	over
)

// Handshake is one handshake under way. Its methods may be called from any
// goroutine.
type Handshake struct {
	pool   *Pool
	params Params
	remote []fingerprint
	in     chan []byte
	fed    atomic.Int64
	phase  atomic.Int32 // written under pool.mu

	cancel context.CancelFunc // nil before running; guarded by pool.mu
}

// NewPool returns a pool. It starts goroutines only for running handshakes. A
// missing certificate or a negative limit is an errs.ErrInvalid.
func NewPool(cfg Config) (*Pool, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	p := &Pool{cfg: cfg, active: make(map[*Handshake]struct{})}
	// The library's own check of the configuration, before the first peer needs it.
	session, err := p.open(newFedConn(nil, Params{}), Server, func([][]byte, [][]*x509.Certificate) error { return nil })
	if err != nil {
		return nil, fmt.Errorf("handshake pool: %w: %w", err, errs.ErrInvalid)
	}
	return p, session.Close()
}

// Start begins a handshake: in the client role at once, in the server role with
// the first ClientHello fed. It never blocks. Too many handshakes that are not
// over are an errs.ErrExhausted, bad parameters an errs.ErrInvalid, a closed
// pool an errs.ErrClosed.
func (p *Pool) Start(params Params) (*Handshake, error) {
	if (params.Role != Server && params.Role != Client) || params.Send == nil || params.Done == nil {
		return nil, fmt.Errorf("start handshake: role, Send and Done are needed: %w", errs.ErrInvalid)
	}
	remote, err := parseFingerprints(params.Remote)
	if err != nil {
		return nil, fmt.Errorf("start handshake: %w", err)
	}
	params.Remote = nil
	h := &Handshake{pool: p, params: params, remote: remote, in: make(chan []byte, feedSlots)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fmt.Errorf("start handshake: %w", errs.ErrClosed)
	}
	if p.live >= p.cfg.Concurrency+p.cfg.Queue {
		return nil, fmt.Errorf("start handshake: %d under way: %w", p.live, errs.ErrExhausted)
	}
	p.live++
	if params.Role == Client {
		p.enqueueLocked(h)
	}
	return h, nil
}

// enqueueLocked gives a handshake a place in the queue, and a goroutine if one
// is left.
func (p *Pool) enqueueLocked(h *Handshake) {
	h.phase.Store(int32(waiting))
	p.waiting = append(p.waiting, h)
	if p.running < p.cfg.Concurrency {
		p.running++
		p.workers.Go(p.work)
	}
}

// work runs waiting handshakes until there is none.
func (p *Pool) work() {
	for {
		h, ctx, ok := p.take()
		if !ok {
			return
		}
		result := p.run(ctx, h)
		if p.finish(h) {
			h.params.Done(result)
		}
	}
}

// take returns the next waiting handshake; false ends the calling goroutine.
func (p *Pool) take() (*Handshake, context.Context, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		p.waiting = nil
		p.running--
		return nil, nil, false
	}
	h := p.waiting[0]
	p.waiting[0] = nil
	p.waiting = p.waiting[1:]
	ctx, cancel := lapse.WithTimeout(context.Background(), p.cfg.Timeout)
	h.cancel = cancel
	h.phase.Store(int32(running))
	p.active[h] = struct{}{}
	return h, ctx, true
}

// finish takes a handshake that ran off the books; false: it was closed.
func (p *Pool) finish(h *Handshake) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	h.cancel()
	delete(p.active, h)
	if phase(h.phase.Load()) == over {
		return false
	}
	h.phase.Store(int32(over))
	p.live--
	return true
}

// Close ends all handshakes and waits for their goroutines. Done is not called
// for those that were under way, but a call that has begun is waited for: Close
// must not be called from Done, or where Done or Send would wait for it.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	for _, h := range slices.Clone(p.waiting) {
		h.closeLocked()
	}
	for h := range p.active {
		h.closeLocked()
	}
	p.mu.Unlock()
	p.workers.Wait()
}

// Feed gives a received datagram to the handshake. It copies, never blocks, and
// drops what cannot belong to a handshake and what a full queue cannot take:
// the peer repeats it.
func (h *Handshake) Feed(datagram []byte) {
	if len(datagram) > maxDatagram || !allowed(datagram) {
		return
	}
	switch phase(h.phase.Load()) {
	case over:
		return
	case idle:
		if !startsHandshake(datagram) {
			return
		}
	case waiting:
		if len(h.in) >= earlySlots {
			return
		}
	case running:
	}
	if h.fed.Add(int64(len(datagram))) > maxFed {
		return
	}
	select {
	case h.in <- bytes.Clone(datagram):
	default:
		return
	}
	if phase(h.phase.Load()) == idle {
		h.pool.begin(h)
	}
}

// begin queues a handshake that has received its first datagram.
func (p *Pool) begin(h *Handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed && phase(h.phase.Load()) == idle {
		p.enqueueLocked(h)
	}
}

// Close gives the handshake up without waiting. Repeated calls do nothing.
func (h *Handshake) Close() {
	h.pool.mu.Lock()
	defer h.pool.mu.Unlock()
	h.closeLocked()
}

func (h *Handshake) closeLocked() {
	p := h.pool
	before := phase(h.phase.Load())
	if before == over {
		return
	}
	h.phase.Store(int32(over))
	p.live--
	switch before {
	case waiting:
		p.waiting = slices.DeleteFunc(p.waiting, func(other *Handshake) bool { return other == h })
	case running:
		h.cancel()
	case idle, over:
	}
}
