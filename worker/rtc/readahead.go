package rtc

import (
	"unsafe"

	"github.com/dspeak/sfu/worker/prefetch"
	"github.com/dspeak/sfu/worker/srtp"
)

// How many listeners before its turn the CPU is asked for a part of a listener's state.
// Each part is found by the one before, which must have come by then.
const (
	aheadFan       = 9
	aheadTransport = 6
	aheadSealer    = 4
	aheadKeys      = 2
)

// fanLines is the size of a fanout in cache lines, and the one that it may begin in.
const fanLines = int(unsafe.Sizeof(fanout{})+prefetch.LineSize-1)/prefetch.LineSize + 1

// readAhead asks the CPU for what listeners after fan[i] need for an incoming packet:
// between two packets of a speaker, their state leaves the caches. i is -aheadFan at
// first.
func readAhead(fan []fanout, i int, index uint64) {
	if k := i + aheadFan; k < len(fan) {
		prefetch.Lines(unsafe.Pointer(&fan[k]), fanLines)
	}
	if k := i + aheadTransport; k >= 0 && k < len(fan) {
		f := &fan[k]
		prefetch.Lines(unsafe.Pointer(&f.transport.srtp.out), 1)
		prefetch.Lines(unsafe.Pointer(&f.transport.ice.selected), 1)
		prefetch.Lines(unsafe.Pointer(&f.transport.pending), 2)
		prefetch.Lines(unsafe.Pointer(&f.history[(index+uint64(f.seq.offset))%historySize]), 1)
	}
	if k := i + aheadSealer; k >= 0 && k < len(fan) {
		t := fan[k].transport
		prefetch.Lines(unsafe.Pointer(t.ice.selected), 2)
		if t.srtp.out != nil {
			srtp.Prefetch(t.srtp.out)
		}
	}
	if k := i + aheadKeys; k >= 0 && k < len(fan) && fan[k].transport.srtp.out != nil {
		fan[k].transport.srtp.out.Prefetch()
	}
}
