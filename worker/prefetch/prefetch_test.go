package prefetch_test

import (
	"testing"
	"unsafe"

	"github.com/dspeak/sfu/worker/prefetch"
)

// TestLines: no address is wrong.
func TestLines(*testing.T) {
	b := make([]byte, 1)
	for _, p := range []unsafe.Pointer{nil, unsafe.Pointer(&b[0])} {
		for _, n := range []int{1, 2, 1000} {
			prefetch.Lines(p, n)
		}
	}
}
