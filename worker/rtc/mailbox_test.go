package rtc

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/worker/handshake"
)

func TestMailboxRunsInOrderAndInBounds(t *testing.T) {
	wakes := 0
	m := newMailbox(func() { wakes++ })
	var got []int
	for i := range 10 {
		m.post(func() { got = append(got, i) })
	}
	if !m.run(4) || len(got) != 4 {
		t.Fatalf("ran %v in a turn of 4", got)
	}
	for m.run(4) {
	}
	for i := range got {
		if got[i] != i {
			t.Fatalf("order %v", got)
		}
	}
	if len(got) != 10 || wakes != 10 {
		t.Fatalf("ran %d, woke %d times", len(got), wakes)
	}
}

func TestMailboxOverflow(t *testing.T) {
	m := newMailbox(func() {})
	ran := 0
	for range 2 * mailboxSize {
		m.offer(func() { ran++ })
	}
	for m.run(64) {
	}
	if ran != mailboxSize {
		t.Fatalf("ran %d, want %d", ran, mailboxSize)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	failed := make(chan error, 2*mailboxSize)
	for range 2 * mailboxSize {
		callers.Go(func() { failed <- m.do(ctx, func() { ran++ }) })
	}
	cancel()
	callers.Wait()
	for m.run(64) {
	}
	if ran != mailboxSize {
		t.Fatalf("%d calls ran although their callers gave up", ran-mailboxSize)
	}
	for range 2 * mailboxSize {
		wantErr(t, <-failed, context.Canceled)
	}
}

// TestMailboxCloseUnderFire: whoever calls while the loop ends gets an answer, and
// nobody wakes a loop that is gone.
func TestMailboxCloseUnderFire(t *testing.T) {
	var mu sync.Mutex
	gone := false
	m := newMailbox(func() {
		mu.Lock()
		defer mu.Unlock()
		if gone {
			t.Error("woken after close")
		}
	})
	var callers sync.WaitGroup
	for range 50 {
		callers.Go(func() {
			for {
				if err := m.do(context.Background(), func() {}); err != nil {
					wantErr(t, err, errs.ErrClosed)
					return
				}
			}
		})
	}
	for range 200 {
		m.run(16)
	}
	m.close()
	mu.Lock()
	gone = true
	mu.Unlock()
	callers.Wait()
	m.post(func() { t.Error("ran after close") })
}

// TestLastFlightIsRepeated: a client that lost our last flight repeats its own.
func TestLastFlightIsRepeated(t *testing.T) {
	b := newBench(t)
	b.sink.keep = true
	p := b.connected(handshake.AEADAES128GCM)
	flight := [][]byte{{20, 1, 2}, {22, 3, 4, 5}}
	mustNil(t, b.ledger.SetBlob(&p.rec.LastFlight, joinFlight(flight)))
	p.dtls.flight, p.dtls.finished = true, b.now
	b.flush()
	b.sink.kept = nil
	repeat := append([]byte{22, 254, 253, 0, 1}, make([]byte, 20)...)
	received := func() (list [][]byte) {
		b.onDatagram(repeat, &p.src, b.now)
		b.flush()
		for _, k := range b.sink.kept {
			list = append(list, k.packets...)
		}
		b.sink.kept = nil
		return list
	}
	got := received()
	if len(got) != 2 || !bytes.Equal(got[0], flight[0]) || !bytes.Equal(got[1], flight[1]) {
		t.Fatalf("repeated %v", got)
	}
	if got := received(); len(got) != 0 {
		t.Fatalf("repeated at once again: %v", got)
	}
	b.base = b.base.Add(-time.Second)
	b.readClock()
	if got := received(); len(got) != 2 {
		t.Fatalf("repeated %v a second later", got)
	}
	b.base = b.base.Add(-lastFlightFor)
	b.readClock()
	b.sweepDTLS(p.transport)
	if got := received(); len(got) != 0 {
		t.Fatalf("repeated %v after its time", got)
	}
}
