package rtc

import (
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/dspeak/sfu/worker/handshake"
	"github.com/dspeak/sfu/worker/netio"
	"github.com/dspeak/sfu/worker/netio/netiotest"
	"github.com/dspeak/sfu/worker/stun"
)

// TestSilence says what the loop may leave lying, and what ends that.
func TestSilence(t *testing.T) {
	b := newBench(t)
	if b.silent() {
		t.Fatal("there is no second socket")
	}
	b.rests = true
	later := func(d time.Duration) { b.now += instant(d) }
	speaker := b.connected(handshake.AEADAES128GCM)
	b.produce(speaker, 100)
	b.flush()
	if b.silent() {
		t.Fatal("a transport was made this moment")
	}
	later(silentAfter)
	if !b.silent() {
		t.Fatal("nothing has come for so long")
	}
	b.onValidCheck(speaker.transport, &stun.Request{UseCandidate: true}, &speaker.src)
	if !b.silent() {
		t.Fatal("a check can wait")
	}
	b.reply(speaker.transport, &speaker.src, []byte("answer"))
	if b.silent() {
		t.Fatal("an answer waits to be sent")
	}
	b.flush()
	b.arrive(speaker, voice(100, 1))
	if b.flush(); b.silent() {
		t.Fatal("somebody speaks")
	}
	later(silentAfter)
	b.port.full = true
	if b.silent() {
		t.Fatal("packets wait for a full socket")
	}
	b.port.full = false
	b.timers.moreCalls = true
	if b.silent() {
		t.Fatal("calls wait")
	}
}

// TestMediaEndARest: a loop that rests hears who speaks at once, not when its time is over.
func TestMediaEndARest(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("no rest")
	}
	r := newRig(t, nil)
	a, b := pair(r)
	r.consume(b, r.produce(a, 11, "0"))
	fast := 0
	for seq := range uint16(10) {
		r.onLoop(func() { r.stirred -= instant(silentAfter) })
		r.eventually("rest", func() bool { return time.Since(r.LastTurn()) > restFor/10 })
		began := time.Now()
		a.speak(11, seq)
		if b.hear(); time.Since(began) < restFor/2 {
			fast++
		}
	}
	if fast == 0 { // of ten, whatever else the machine does
		t.Fatal("each packet waited for the end of a rest")
	}
}

// TestCallsDoNotKeepChecksLying: one rest that ends before its time is not followed by
// another before everything was read.
func TestCallsDoNotKeepChecksLying(t *testing.T) {
	b := newBench(t)
	aside, err := netiotest.NewUDP(netip.MustParseAddrPort("192.0.2.9:9"), netio.UDPOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = aside.Close() }()
	place, err := b.poller.AddAside(aside)
	if err != nil {
		t.Fatal(err)
	}
	b.rests, b.drained = true, true
	aside.Inject(netip.MustParseAddrPort("192.0.2.1:1000"), 5, []byte("check"))
	for range 2 {
		b.poller.Wake()
		ready, err := b.wait()
		if err != nil || !ready.Woken {
			t.Fatalf("%+v, %v", ready, err)
		}
		if ready.Readable == 1<<place {
			return
		}
	}
	t.Fatal("the check lies there for another rest")
}

// TestPagesAreReleasedInSilence: a packet that was kept to be sent again is gone then,
// not before.
func TestPagesAreReleasedInSilence(t *testing.T) {
	b := newBench(t)
	b.rests = true
	listener, speaker := b.connected(handshake.AEADAES128GCM), b.connected(handshake.AEADAES128GCM)
	c := b.consume(listener, b.produce(speaker, 100))
	for seq := uint16(0); b.out.ring.head < releaseBytes; seq++ {
		b.arrive(speaker, voice(100, seq))
	}
	b.flush()
	out := uint16(c.entry().seq.last)
	b.releaseSilent()
	if !b.resend(c.entry(), out) {
		t.Fatal("gone while it may be asked for")
	}
	b.flush()
	b.now += instant(releaseAfter)
	b.releaseSilent()
	if b.resend(c.entry(), out) {
		t.Fatal("still there after long silence")
	}
	if b.out.released == 0 {
		t.Fatal("not released")
	}
}
