//go:build unix && !linux

package netio

import (
	"errors"
	"fmt"
)

// OpenAside is for Linux.
func OpenAside(u UDP, _ UDPOptions) (UDP, error) {
	return nil, fmt.Errorf("second socket on %s: %w", u.LocalAddr(), errors.ErrUnsupported)
}
