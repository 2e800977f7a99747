package ledgerfile

import (
	"fmt"
	"hash/fnv"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/dspeak/sfu/internal/errs"
)

// HeaderSize is the size of the first page in bytes: records begin behind it.
const HeaderSize = 4096

// Size is the size of a worker's ledger in bytes. Only what is written costs memory.
const Size = 1 << 32

// Header is the first page of a ledger, shared by both processes. Every field is one
// word that a reader of the other process sees whole. Any goroutine may use it.
type Header struct {
	magic      atomic.Uint64
	layout     atomic.Uint64
	generation atomic.Uint64
	loopThread atomic.Int64
	// The hot words have a cache line of their own.
	_           [4]uint64
	loopBeat    atomic.Int64
	controlBeat atomic.Int64
	inHand      atomic.Uint64
	_           [5]uint64
}

const magic = 0x64737065616b4c31 // "dspeakL1"

// HeaderOf is the header of a mapped ledger.
func HeaderOf(mem []byte) (*Header, error) {
	if len(mem) < HeaderSize {
		return nil, fmt.Errorf("ledger header in %d bytes: %w", len(mem), errs.ErrInvalid)
	}
	return (*Header)(unsafe.Pointer(unsafe.SliceData(mem))), nil //nolint:gosec // a mapping begins at a page
}

// Layout is the version of the records' layout; 0: the ledger is empty.
func (h *Header) Layout() uint64 {
	if h.magic.Load() != magic {
		return 0
	}
	return h.layout.Load()
}

// SetLayout says that records of that layout follow.
func (h *Header) SetLayout(v uint64) {
	h.layout.Store(v)
	h.magic.Store(magic)
}

// Generation is that of the process that wrote last.
func (h *Header) Generation() uint64 { return h.generation.Load() }

// SetGeneration is called by a process before it writes anything else.
func (h *Header) SetGeneration(v uint64) { h.generation.Store(v) }

// LoopThread is the thread of the media loop; 0: not known yet.
func (h *Header) LoopThread() int { return int(h.loopThread.Load()) }

// SetLoopThread is called by the media loop.
func (h *Header) SetLoopThread(tid int) { h.loopThread.Store(int64(tid)) }

// Beats are when the media loop and the control side last moved, on the clock of
// Now; 0: not yet.
func (h *Header) Beats() (loop, control int64) { return h.loopBeat.Load(), h.controlBeat.Load() }

// BeatLoop is called by the media loop at each turn.
func (h *Header) BeatLoop(now int64) { h.loopBeat.Store(now) }

// BeatControl is called by the control side of the worker.
func (h *Header) BeatControl(now int64) { h.controlBeat.Store(now) }

// InHand is the Mark of the router that the media loop works for right now; 0: none.
func (h *Header) InHand() uint64 { return h.inHand.Load() }

// SetInHand is called by the media loop around what may crash it.
func (h *Header) SetInHand(mark uint64) { h.inHand.Store(mark) }

// Mark is a short name of a router for InHand; never 0.
func Mark(router string) uint64 {
	f := fnv.New64a()
	_, _ = f.Write([]byte(router)) // never fails
	return f.Sum64() | 1
}

// View is a supervisor's mapping of a header alone.
type View struct {
	*Header

	mem []byte
}

// OpenHeader maps the header of a ledger.
func OpenHeader(f *os.File) (*View, error) {
	mem, err := mapFile(f, HeaderSize)
	if err != nil {
		return nil, err
	}
	h, err := HeaderOf(mem)
	if err != nil {
		return nil, err
	}
	return &View{Header: h, mem: mem}, nil
}

// Close ends the mapping. Nothing may use the header any more.
func (v *View) Close() error { return Unmap(v.mem) }
