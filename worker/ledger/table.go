package ledger

import (
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ledgerfile"
)

// Ref names a record of a table; 0 names none.
type Ref uint32

// States of a record:
//
//	free -> live -> dying -> free
//
// A record that is being written is still free in memory.
const (
	stateFree  = 0
	stateLive  = 0x4556494c // "LIVE"
	stateDying = 0x45494544 // "DEIE"
)

// head begins every record.
type head struct {
	state atomic.Uint32
	ref   Ref
}

// Ref is the record's name.
func (h *head) Ref() Ref { return h.ref }

// maxBlobs is how many blobs a record may have.
const maxBlobs = 6

// record is a pointer to a record R.
type record[R any] interface {
	*R
	// header is the record's head, blobs are what it owns; nil entries are none.
	header() *head
	blobs() [maxBlobs]*Blob
}

// Table is the records of one kind.
type Table[R any, P record[R]] struct {
	ledger  *Ledger
	records array[R]
	used    *atomic.Uint32 // never in use from here on; in the superblock
	free    []Ref          // below used; the last is taken first
	live    int
}

func newTable[R any, P record[R]](l *Ledger, mem []byte, at *int64, n uint32, used *atomic.Uint32) (Table[R, P], error) {
	records, err := arrayAt[R](mem, *at, n)
	*at += int64(n) * stride[R]()
	return Table[R, P]{ledger: l, records: records, used: used}, err
}

// Len is the number of records that are taken.
func (t *Table[R, P]) Len() int { return t.live }

// New takes a record, all zero, which no successor sees before Commit. Without room
// it is an errs.ErrExhausted.
func (t *Table[R, P]) New() (P, error) {
	if n := len(t.free); n > 0 {
		ref := t.free[n-1]
		t.free = t.free[:n-1]
		return t.take(ref), nil
	}
	used := t.used.Load()
	if used >= t.records.n {
		return nil, fmt.Errorf("ledger: %d records: %w", used, errs.ErrExhausted)
	}
	t.used.Store(used + 1)
	return t.take(Ref(used + 1)), nil
}

func (t *Table[R, P]) take(ref Ref) P {
	r := P(t.records.at(uint32(ref) - 1))
	r.header().ref = ref // before all else: the record is not zero any more
	clearBody((*R)(r))
	t.live++
	return r
}

// Commit makes a record valid, whole as it is.
func (t *Table[R, P]) Commit(r P) { r.header().state.Store(stateLive) }

// Condemn makes a record invalid for a successor, with all that hangs on it, before
// it is freed.
func (t *Table[R, P]) Condemn(r P) { r.header().state.Store(stateDying) }

// Free zeroes a record with its blobs. Nothing may use it any more.
func (t *Table[R, P]) Free(r P) {
	h := r.header()
	ref := h.ref
	if h.state.Load() != stateFree {
		h.state.Store(stateDying)
	}
	for _, b := range r.blobs() {
		if b != nil {
			t.ledger.DropBlob(b)
		}
	}
	clearBody((*R)(r))
	h.ref = 0
	h.state.Store(stateFree)
	t.free = append(t.free, ref)
	t.live--
}

// Get is the live record of that name, nil when there is none.
func (t *Table[R, P]) Get(ref Ref) P {
	if ref == 0 || uint32(ref) > t.used.Load() {
		return nil
	}
	r := P(t.records.at(uint32(ref) - 1))
	if r.header().state.Load() != stateLive {
		return nil
	}
	return r
}

// All walks the live records. The one at hand may be freed meanwhile.
func (t *Table[R, P]) All() iter.Seq[P] {
	return func(yield func(P) bool) {
		for i := range t.used.Load() {
			r := P(t.records.at(i))
			if r.header().state.Load() == stateLive && !yield(r) {
				return
			}
		}
	}
}

// recover makes the free list anew and zeroes what is not live.
func (t *Table[R, P]) recover() {
	t.free, t.live = t.free[:0], 0
	// From the back, so that the lowest is taken first: the table stays dense.
	for i := t.used.Load(); i > 0; i-- {
		r := P(t.records.at(i - 1))
		if h := r.header(); h.state.Load() != stateLive {
			if h.ref != 0 || h.state.Load() != stateFree {
				clearBody((*R)(r))
				h.ref = 0
				h.state.Store(stateFree)
			}
			t.free = append(t.free, Ref(i))
			continue
		}
		t.live++
	}
}

// release gives the memory of a table without records back.
func (t *Table[R, P]) release() error {
	used := t.used.Load()
	t.free = nil
	t.used.Store(0) // all of them are zero
	return ledgerfile.Release(t.records.bytes(0, used))
}
