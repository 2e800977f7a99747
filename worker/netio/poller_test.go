//go:build linux

package netio_test

import (
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/worker/netio"
	"github.com/dspeak/sfu/worker/netio/netiotest"
)

func TestWaitTimesOut(t *testing.T) {
	p := newPoller(t)
	for _, timeout := range []time.Duration{0, 5 * time.Millisecond} {
		start := time.Now()
		// Go's preemption signal may end a wait early; it must never end late and empty-handed.
		if r, err := p.Wait(timeout); err != nil || r != (netio.Ready{}) {
			t.Errorf("%+v, %v", r, err)
		}
		if took := time.Since(start); took > waitLimit {
			t.Errorf("waited %v for %v", took, timeout)
		}
	}
}

func TestWakeEndsOneWait(t *testing.T) {
	p := newPoller(t)
	for range 3 {
		p.Wake()
		p.Wake() // coalesced
		if r, err := p.Wait(-1); err != nil || !r.Woken {
			t.Fatalf("%+v, %v", r, err)
		}
		if r, err := p.Wait(0); err != nil || r.Woken {
			t.Fatalf("woken twice: %+v, %v", r, err)
		}
	}
}

// TestRest: an aside does not end a rest, and all else does; no Wake is lost.
func TestRest(t *testing.T) {
	p := newPoller(t)
	socket, aside := newTwin(t), newTwin(t)
	index, err := p.AddUDP(socket)
	if err != nil {
		t.Fatal(err)
	}
	place, err := p.AddAside(aside)
	if err != nil {
		t.Fatal(err)
	}
	from := netip.MustParseAddrPort("192.0.2.1:1000")
	aside.Inject(from, 5, []byte("check"))
	rest := func(ending string, d time.Duration, want netio.Ready) {
		t.Helper()
		for {
			switch r, err := p.Rest(d); {
			case err != nil || r != want && r != (netio.Ready{}):
				t.Fatalf("%s: %+v, %v; want %+v", ending, r, err, want)
			case r == want:
				return
			}
		}
	}
	rest("its time", time.Millisecond, netio.Ready{})
	if r, err := p.Wait(waitLimit); err != nil || r != (netio.Ready{Readable: 1 << place}) {
		t.Fatalf("no aside after the rest: %+v, %v", r, err)
	}
	p.Wake()
	rest("an earlier Wake", waitLimit, netio.Ready{Woken: true})
	later := time.AfterFunc(time.Millisecond, p.Wake)
	rest("Wake", waitLimit, netio.Ready{Woken: true})
	later.Stop()
	socket.Inject(from, 5, []byte("media"))
	rest("a packet", waitLimit, netio.Ready{Readable: 1 << index})
	if r, err := p.Wait(waitLimit); err != nil || r != (netio.Ready{Readable: 1<<index | 1<<place}) {
		t.Fatalf("%+v, %v", r, err)
	}
}

// Every piece of work announced by Wake is seen, whoever wins the race.
func TestNoWakeIsLost(t *testing.T) {
	p := newPoller(t)
	const wakers, each = 4, 500
	work := make(chan struct{}, wakers*each)
	var wg sync.WaitGroup
	for range wakers {
		wg.Go(func() {
			for range each {
				work <- struct{}{}
				p.Wake()
				runtime.Gosched()
			}
		})
	}
	done := 0
	for deadline := time.Now().Add(waitLimit); done < wakers*each; {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d seen", done, wakers*each)
		}
		r, err := p.Wait(time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for r.Woken && len(work) > 0 {
			<-work
			done++
		}
	}
	wg.Wait()
}

func TestSignalsDoNotDisturb(t *testing.T) {
	p := newPoller(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	thread := syscall.Gettid()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer p.Wake()
		for {
			select {
			case <-stop:
				return
			default:
				// SIGURG is Go's own preemption signal: it is handled and ignored.
				_ = syscall.Tgkill(syscall.Getpid(), thread, syscall.SIGURG)
				runtime.Gosched()
			}
		}
	})
	for range 200 {
		if r, err := p.Wait(time.Millisecond); err != nil || r.Woken {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	close(stop)
	wg.Wait()
}

func TestWakeAfterCloseDoesNothing(t *testing.T) {
	p := newPoller(t)
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Fatal(err)
	}
	p.Wake()
}

func TestPollerTellsSocketsApart(t *testing.T) {
	p := newPoller(t)
	from := netip.MustParseAddrPort("192.0.2.1:1000")
	var twins [3]*netiotest.UDP
	for i := range twins {
		twins[i] = newTwin(t)
		if index, err := p.AddUDP(twins[i]); index != i || err != nil {
			t.Fatalf("index %d, %v", index, err)
		}
	}
	twins[1].Inject(from, 5, []byte("one"))
	twins[1].Inject(from, 6, []byte("two"))
	if r, err := p.Wait(-1); err != nil || r != (netio.Ready{Readable: 1 << 1}) {
		t.Fatalf("%+v, %v", r, err)
	}
	ms := []netio.Message{{Buf: make([]byte, 10)}}
	for i, want := range []string{"one", "two"} {
		n, err := twins[1].ReadBatch(ms)
		if n != 1 || err != nil || string(ms[0].Buf[:ms[0].N]) != want || ms[0].Addr != from || ms[0].ArrivalNanos != int64(5+i) {
			t.Errorf("%d, %v: %+v", n, err, ms[0])
		}
	}
	if r, err := p.Wait(0); err != nil || r.Readable != 0 {
		t.Errorf("still readable: %+v, %v", r, err)
	}
}

func TestPollerWatchesForRoom(t *testing.T) {
	p := newPoller(t)
	u := newTwin(t)
	index, err := p.AddUDP(u)
	if err != nil {
		t.Fatal(err)
	}
	s := []netio.Send{{Addr: netip.MustParseAddrPort("192.0.2.1:1000"), Packets: packets(3, 3), SegmentSize: 3}}
	u.Block(true)
	if n, err := u.WriteBatch(s); n != 0 || !errors.Is(err, netio.ErrWouldBlock) {
		t.Fatalf("%d, %v", n, err)
	}
	p.WatchWrite(index, true)
	p.WatchWrite(index+1, true) // of nobody
	if r, err := p.Wait(0); err != nil || r.Writable != 0 {
		t.Fatalf("blocked, but %+v, %v", r, err)
	}
	u.Block(false)
	if r, err := p.Wait(-1); err != nil || r.Writable != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	p.WatchWrite(index, false)
	if r, err := p.Wait(0); err != nil || r.Writable != 0 {
		t.Fatalf("not watched, but %+v, %v", r, err)
	}
	if n, err := u.WriteBatch(s); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	<-u.Written()
	got := u.Sent()
	if len(got) != 2 || string(got[1].Data) != "\x02\x02\x02" || got[0].To != s[0].Addr || len(u.Sent()) != 0 {
		t.Errorf("sent %v", got)
	}
}

func TestTwinLimits(t *testing.T) {
	var count netio.Counters
	u, err := netiotest.NewUDP(netip.MustParseAddrPort("192.0.2.9:9"), netio.UDPOptions{NoOffload: true, Counters: &count})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = u.Close() }()
	if u.MaxSegments() != 1 || u.LocalAddr().Port() != 9 {
		t.Errorf("%d segments on %v", u.MaxSegments(), u.LocalAddr())
	}
	u.Inject(netip.AddrPort{}, 0, make([]byte, 11))
	u.Inject(netip.AddrPort{}, 0, make([]byte, 10))
	if n, err := u.ReadBatch([]netio.Message{{Buf: make([]byte, 10)}}); n != 1 || err != nil || count.Truncated != 1 {
		t.Errorf("%d, %v, %+v", n, err, count)
	}
}

func TestPollerTakesABoundedNumberOfSockets(t *testing.T) {
	p := newPoller(t)
	u := newTwin(t)
	for i := range 32 {
		if index, err := p.AddUDP(u); index != i || err != nil {
			t.Fatalf("%d: %d, %v", i, index, err)
		}
	}
	if _, err := p.AddUDP(u); !errors.Is(err, errs.ErrExhausted) {
		t.Errorf("%v", err)
	}
}

func newTwin(t *testing.T) *netiotest.UDP {
	t.Helper()
	u, err := netiotest.NewUDP(netip.MustParseAddrPort("192.0.2.9:9"), netio.UDPOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.Close() })
	return u
}
