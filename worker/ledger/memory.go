package ledger

import (
	"fmt"
	"unsafe"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ledgerfile"
)

// This file holds every use of package unsafe. It lays structs over the memory of a
// ledger. That is sound because they hold no pointers, so that any bytes are valid
// values of them as far as the runtime is concerned; because array checks their
// bounds and alignment; and because the memory lives as long as the Ledger: a
// mapping is not unmapped before the process ends, private memory is kept by it.

// superblockAt is where the superblock begins; tables begin tablesAt.
const (
	superblockAt = ledgerfile.HeaderSize
	tablesAt     = superblockAt + superblockSize

	superblockSize = 4096
)

// align is what records are aligned to: a cache line.
const align = 64

// privateMemory is memory of the process's own, aligned as a mapping would be for
// all that lies in it.
func privateMemory(size int64) []byte {
	lines := make([][align]byte, (size+align-1)/align)
	if len(lines) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(lines))), size)
}

// superblockOf lays the superblock over a ledger's memory.
func superblockOf(mem []byte) (*superblock, error) {
	if len(mem) < tablesAt || uintptr(unsafe.Pointer(unsafe.SliceData(mem)))%align != 0 {
		return nil, fmt.Errorf("ledger of %d bytes: %w", len(mem), errs.ErrInvalid)
	}
	return (*superblock)(unsafe.Pointer(&mem[superblockAt])), nil
}

// stride is the size of one record in its table.
func stride[R any]() int64 {
	var r R
	return (int64(unsafe.Sizeof(r)) + align - 1) / align * align
}

// array is n records of R side by side in mem.
type array[R any] struct {
	base unsafe.Pointer
	n    uint32
}

// arrayAt lays n records over mem from offset on.
func arrayAt[R any](mem []byte, offset int64, n uint32) (array[R], error) {
	if n == 0 || offset%align != 0 || offset < 0 || offset > int64(len(mem)) || int64(n) > (int64(len(mem))-offset)/stride[R]() {
		return array[R]{}, fmt.Errorf("ledger table of %d records at %d: %w", n, offset, errs.ErrInvalid)
	}
	return array[R]{base: unsafe.Pointer(&mem[offset]), n: n}, nil
}

// at is record i, which is below n.
func (a array[R]) at(i uint32) *R {
	if i >= a.n {
		panic("ledger: record out of bounds") //nolint:forbidigo // as an index expression does
	}
	return (*R)(unsafe.Add(a.base, int64(i)*stride[R]()))
}

// bytes is the memory of the records from the first on, before the end.
func (a array[R]) bytes(first, end uint32) []byte {
	all := unsafe.Slice((*byte)(a.base), int64(a.n)*stride[R]())
	return all[int64(first)*stride[R]() : int64(end)*stride[R]()]
}

// clearBody zeroes record r but for its head.
func clearBody[R any](r *R) {
	b := unsafe.Slice((*byte)(unsafe.Pointer(r)), stride[R]())
	clear(b[unsafe.Sizeof(head{}):])
}
