package netio

import "errors"

// NewUDP wraps a bound UDP socket. It duplicates fd; the caller keeps its own.
func NewUDP(fd int, opts UDPOptions) (UDP, error) { return nil, errors.ErrUnsupported }
