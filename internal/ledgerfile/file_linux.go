package ledgerfile

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// Create makes an empty ledger of size bytes, whose pages cost memory only once they
// are written. Its size is sealed, so that nobody who maps it can be made to fault.
func Create(size int64) (*os.File, error) {
	if size < HeaderSize {
		return nil, fmt.Errorf("ledger of %d bytes: %w", size, errs.ErrInvalid)
	}
	fd, err := unix.MemfdCreate("dspeak-ledger", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make ledger: %w", err)
	}
	f := os.NewFile(uintptr(fd), "ledger")
	err = f.Chmod(0o600)
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make ledger: %w", err), f.Close())
	}
	return f, nil
}

// Map maps a whole ledger for reading and writing. A file that could shrink under
// the mapping is an errs.ErrInvalid. Unmap lets it go.
func Map(f *os.File) ([]byte, error) { return mapFile(f, 0) }

// mapFile maps the first n bytes, all of them when n is 0.
func mapFile(f *os.File, n int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("map ledger: %w", err)
	}
	got, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || got&seals != seals || info.Size() < HeaderSize {
		return nil, fmt.Errorf("map ledger: not a sealed ledger of at least %d bytes: %w", HeaderSize, errs.ErrInvalid)
	}
	if n == 0 {
		n = info.Size()
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map ledger: %w", err)
	}
	if err := unix.Madvise(mem, unix.MADV_DONTDUMP); err != nil {
		return nil, errors.Join(fmt.Errorf("keep ledger out of core dumps: %w", err), unix.Munmap(mem))
	}
	return mem, nil
}

// Unmap ends a mapping of Map. Nothing may use its memory any more.
func Unmap(mem []byte) error {
	if err := unix.Munmap(mem); err != nil {
		return fmt.Errorf("unmap ledger: %w", err)
	}
	return nil
}

// Release gives the whole pages within part of a mapping back to the system; they then
// read as zeros, in every process.
func Release(part []byte) error {
	page := os.Getpagesize()
	skip := (page - int(uintptr(unsafe.Pointer(unsafe.SliceData(part)))%uintptr(page))) % page //nolint:gosec // an address only
	if len(part)-skip < page {
		return nil
	}
	part = part[skip:]
	if err := unix.Madvise(part[:len(part)/page*page], unix.MADV_REMOVE); err != nil {
		return fmt.Errorf("release %d bytes of the ledger: %w", len(part), err)
	}
	return nil
}

// Now is the clock of the beats: nanoseconds that stand still while the machine sleeps.
func Now() int64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return ts.Nano()
}
