package rtc

import (
	"runtime"
	"testing"
	"time"

	"github.com/dspeak/sfu/worker/handshake"
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
	router := r.router()
	a, b := r.newClient(router), r.newClient(router)
	a.connect(dialUDP(t, a.addr("udp", true)), "client")
	b.connect(dialUDP(t, b.addr("udp", true)), "client")
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
