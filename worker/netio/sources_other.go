//go:build unix && !linux

package netio

import "net/netip"

// Sources knows which address the kernel sends from when none is named: here it is not
// told.
type Sources struct{}

// Chooses reports false.
func (*Sources) Chooses(netip.AddrPort, Local) bool { return false }

// Close does nothing.
func (*Sources) Close() {}
