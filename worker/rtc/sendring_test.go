package rtc

import (
	"bytes"
	"testing"
	"time"
)

func testRing(tb testing.TB, size int) *sendRing {
	tb.Helper()
	r, err := newSendRing(size)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func TestSendRing(t *testing.T) {
	r := testRing(t, 1<<18)
	type entry struct {
		ref  packetRef
		data []byte
	}
	var log []entry
	for i := range 5000 {
		n := 20 + i*37%1400
		b := r.reserve(n + maxTag)
		if len(b) != n+maxTag || cap(b) != n+maxTag {
			t.Fatalf("reserved %d/%d bytes, want %d", len(b), cap(b), n+maxTag)
		}
		for j := range b[:n] {
			b[j] = byte(i + j)
		}
		log = append(log, entry{r.commit(n), bytes.Clone(b[:n])})
	}
	found := 0
	for i, e := range log {
		b := r.packet(e.ref)
		if b == nil {
			if found > 0 {
				t.Fatalf("packet %d is gone although an older one is there", i)
			}
			continue
		}
		found++
		if !bytes.Equal(b, e.data) {
			t.Fatalf("packet %d changed", i)
		}
	}
	if found < 200 || found == len(log) {
		t.Fatalf("%d of %d packets are still there", found, len(log))
	}
	if r.packet(0) != nil {
		t.Fatal("the zero reference names a packet")
	}
}

func TestSendRingRoom(t *testing.T) {
	r := testRing(t, 1<<18)
	since := r.head
	for r.room(since) > 0 {
		was := r.room(since)
		r.reserve(1000)
		r.commit(1000)
		if r.room(since) >= was {
			t.Fatal("room does not shrink")
		}
	}
	if r.head-since < 1<<18 {
		t.Fatal("no room although the ring is not full")
	}
}

func TestWaitFor(t *testing.T) {
	for _, tc := range []struct {
		name string
		busy float64
		max  time.Duration
		want time.Duration
	}{
		{"idle", 0.1, 2 * time.Millisecond, 0},
		{"at the knee", paceIdle, 2 * time.Millisecond, 0},
		{"half way", (paceIdle + paceFull) / 2, 2 * time.Millisecond, time.Millisecond},
		{"full", 0.95, 2 * time.Millisecond, 2 * time.Millisecond},
		{"switched off", 0.95, -1, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := waitFor(tc.busy, tc.max)
			if d := got - tc.want; d < -time.Microsecond || d > time.Microsecond {
				t.Fatalf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestPacerFollowsLoad(t *testing.T) {
	p := pacer{maxWait: 2 * time.Millisecond, padding: PaddingAuto}
	for range 200 {
		p.turn(10*time.Millisecond, 0)
	}
	if p.wait() != 2*time.Millisecond || p.padTo() != padQuantum {
		t.Fatalf("busy loop waits %s and pads to %d", p.wait(), p.padTo())
	}
	for range 200 {
		p.turn(10*time.Millisecond, 9*time.Millisecond)
	}
	if p.wait() != 0 || p.padTo() != 0 {
		t.Fatalf("idle loop waits %s and pads to %d", p.wait(), p.padTo())
	}
}
