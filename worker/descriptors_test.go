package worker

import (
	"math"
	"testing"
)

func TestConnectionsFitTheDescriptors(t *testing.T) {
	for descriptors, want := range map[uint64]int{
		0: 1, 48: 1, 49: 1, 64: 16, 256: 208, 1024: 976, 4144: 4096, 65536: 4096, math.MaxUint64: 4096,
	} {
		if got := clipConnections(descriptors, usualSockets); got != want {
			t.Errorf("%d descriptors: %d connections, want %d", descriptors, got, want)
		}
	}
	if got := clipConnections(256, 16); got != 172 {
		t.Errorf("with eight addresses to bind: %d connections", got)
	}
	if got := tcpConnections(usualSockets); got < 1 || got > mostTCPConnections {
		t.Errorf("%d connections", got)
	}
}
