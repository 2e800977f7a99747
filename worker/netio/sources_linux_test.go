package netio_test

import (
	"net/netip"
	"os"
	"testing"

	"github.com/dspeak/sfu/worker/netio"
)

// TestSourcesKnowTheKernelsChoice on loopback, where 127.0.0.1 is what it prefers for
// every address of the network but a machine's own.
func TestSourcesKnowTheKernelsChoice(t *testing.T) {
	var s netio.Sources
	before := descriptors(t)
	for _, row := range []struct {
		to, local string
		want      bool
	}{
		{"127.0.0.1:9", "127.0.0.1", true},
		{"127.0.0.1:9", "127.0.0.2", false},
		{"127.0.0.3:9", "127.0.0.1", true},
		{"[::1]:9", "::1", true},
		{"127.0.0.1:9", "127.0.0.1", true}, // again, after another answer
		{"[::1]:9", "::2", false},
	} {
		if got := s.Chooses(netip.MustParseAddrPort(row.to), netio.LocalOf(netip.MustParseAddr(row.local))); got != row.want {
			t.Errorf("from %s to %s: %v, want %v", row.local, row.to, got, row.want)
		}
	}
	linkLocal := netio.LocalFrom(netip.MustParseAddr("fe80::1").As16(), 1)
	if s.Chooses(netip.MustParseAddrPort("[fe80::2]:9"), linkLocal) {
		t.Error("a link-local address is the kernel's choice")
	}
	s.Close()
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
