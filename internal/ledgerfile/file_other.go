//go:build !linux

package ledgerfile

import (
	"fmt"
	"os"

	"github.com/dspeak/sfu/internal/errs"
)

// Create needs Linux.
func Create(int64) (*os.File, error) {
	return nil, fmt.Errorf("ledgers need Linux: %w", errs.ErrUnsupported)
}

// Map needs Linux.
func Map(*os.File) ([]byte, error) { return mapFile(nil, 0) }

func mapFile(*os.File, int64) ([]byte, error) {
	return nil, fmt.Errorf("ledgers need Linux: %w", errs.ErrUnsupported)
}

// Unmap has nothing to do.
func Unmap([]byte) error { return nil }

// Release has nothing to do.
func Release([]byte) error { return nil }

// Now is zero: there are no beats.
func Now() int64 { return 0 }
