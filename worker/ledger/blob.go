package ledger

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ledgerfile"
)

const (
	blockSize = 128
	blockData = blockSize - 8
	// MaxBlob bounds a blob, in bytes.
	MaxBlob = 1 << 18
	// blockUsed marks a block that may hold data; the bits below are how much.
	blockUsed = 1 << 31
)

// Blob is bytes of any number in a chain of blocks; the zero value is none.
type Blob struct{ first atomic.Uint32 }

// Empty says whether there is none.
func (b *Blob) Empty() bool { return b.first.Load() == 0 }

// block is one link of a chain.
type block struct {
	used atomic.Uint32 // blockUsed and the number of bytes; 0: the block is all zero
	next Ref
	data [blockData]byte
}

// blockStore is all blocks.
type blockStore struct {
	array array[block]
	used  *atomic.Uint32
	free  []Ref
}

func (s *blockStore) at(ref Ref) *block { return s.array.at(uint32(ref) - 1) }

// take returns a block that is all zero.
func (s *blockStore) take() (Ref, bool) {
	if n := len(s.free); n > 0 {
		ref := s.free[n-1]
		s.free = s.free[:n-1]
		return ref, true
	}
	used := s.used.Load()
	if used >= s.array.n {
		return 0, false
	}
	s.used.Store(used + 1)
	return Ref(used + 1), true
}

// write makes a chain of data, which is not empty. Its blocks are nobody's until a
// head names the first.
func (s *blockStore) write(data []byte) (Ref, error) {
	if len(data) > MaxBlob {
		return 0, fmt.Errorf("ledger: %d bytes, want at most %d: %w", len(data), MaxBlob, errs.ErrInvalid)
	}
	next := Ref(0)
	// From the end, so that each block knows its successor.
	for end := len(data); end > 0; {
		start := (end - 1) / blockData * blockData
		ref, ok := s.take()
		if !ok {
			s.drop(next)
			return 0, fmt.Errorf("ledger: %d blocks: %w", s.array.n, errs.ErrExhausted)
		}
		b := s.at(ref)
		b.used.Store(blockUsed | uint32(end-start)) // before the data: it is not zero any more
		b.next = next
		copy(b.data[:], data[start:end])
		next, end = ref, start
	}
	return next, nil
}

// drop zeroes a chain and frees its blocks.
func (s *blockStore) drop(ref Ref) {
	for ref != 0 {
		b := s.at(ref)
		next := b.next
		s.wipe(b)
		s.free = append(s.free, ref)
		ref = next
	}
}

func (*blockStore) wipe(b *block) {
	clear(b.data[:])
	b.next = 0
	b.used.Store(0) // last: until then it is known to be dirty
}

// SetBlob replaces a blob by a copy of data; nothing is none. When it fails, with
// errs.ErrExhausted or errs.ErrInvalid, the former stays.
func (l *Ledger) SetBlob(b *Blob, data []byte) error {
	if len(data) == 0 {
		l.DropBlob(b)
		return nil
	}
	first, err := l.blocks.write(data)
	if err != nil {
		return err
	}
	old := Ref(b.first.Load())
	b.first.Store(uint32(first))
	l.blocks.drop(old)
	return nil
}

// DropBlob makes a blob none and zeroes what it was.
func (l *Ledger) DropBlob(b *Blob) {
	old := Ref(b.first.Load())
	if old == 0 {
		return
	}
	b.first.Store(0)
	l.blocks.drop(old)
}

// Blob is a copy of a blob, nil for none.
func (l *Ledger) Blob(b *Blob) []byte {
	ref := Ref(b.first.Load())
	if ref == 0 {
		return nil
	}
	size := 0
	for at := ref; at != 0; at = l.blocks.at(at).next {
		size += int(l.blocks.at(at).used.Load() &^ blockUsed)
	}
	data := make([]byte, 0, size)
	for ; ref != 0; ref = l.blocks.at(ref).next {
		link := l.blocks.at(ref)
		data = append(data, link.data[:link.used.Load()&^blockUsed]...)
	}
	return data
}

// marks says which blocks live records reach.
type marks []uint64

func (m marks) has(ref Ref) bool { return m[(ref-1)/64]>>((ref-1)%64)&1 != 0 }
func (m marks) flip(ref Ref)     { m[(ref-1)/64] ^= 1 << ((ref - 1) % 64) }

// mark marks a chain. It says false, and marks nothing, for a chain that cannot be:
// out of bounds, without end, with blocks of another, or of impossible lengths.
func (s *blockStore) mark(m marks, b *Blob) bool {
	first := Ref(b.first.Load())
	links, size := 0, uint32(0)
	for ref := first; ref != 0; links++ {
		if uint32(ref) > s.used.Load() || m.has(ref) || !s.at(ref).sound() || size > MaxBlob {
			s.unmark(m, first, links)
			return false
		}
		m.flip(ref)
		size += s.at(ref).used.Load() &^ blockUsed
		ref = s.at(ref).next
	}
	return true
}

func (s *blockStore) unmark(m marks, ref Ref, links int) {
	for range links {
		m.flip(ref)
		ref = s.at(ref).next
	}
}

// sound says whether a block's length can be: only the last of a chain is not full.
func (b *block) sound() bool {
	n := b.used.Load()
	return n&blockUsed != 0 && n&^blockUsed <= blockData && n&^blockUsed > 0 && (b.next == 0 || n&^blockUsed == blockData)
}

// recover makes the free list anew and zeroes every block that is not marked.
func (s *blockStore) recover(m marks) {
	s.free = s.free[:0]
	for i := s.used.Load(); i > 0; i-- {
		if ref := Ref(i); !m.has(ref) {
			if b := s.at(ref); b.used.Load() != 0 {
				s.wipe(b)
			}
			s.free = append(s.free, ref)
		}
	}
}

// release gives the memory beyond the last block in use back.
func (s *blockStore) release() error {
	used, last := s.used.Load(), uint32(0)
	for i := used; i > 0 && last == 0; i-- {
		if s.array.at(i-1).used.Load() != 0 {
			last = i
		}
	}
	s.free = slices.DeleteFunc(s.free, func(ref Ref) bool { return uint32(ref) > last })
	s.used.Store(last) // what lies beyond is zero
	return ledgerfile.Release(s.array.bytes(last, used))
}
