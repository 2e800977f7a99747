package signaling

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/signaling/wire"
)

func TestAdmission(t *testing.T) {
	limits := Limits{AdmissionRate: 10, AdmissionBurst: 2, AdmissionQueue: 3, AdmissionWait: 250 * time.Millisecond}
	arrive := func(ctx context.Context, a *admission, results chan<- error) {
		go func() { results <- a.enter(ctx) }()
		synctest.Wait()
	}
	t.Run("a burst enters, the next wait for their turns", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, results := newAdmission(limits), make(chan error, 8)
			began := time.Now()
			for range 4 {
				arrive(t.Context(), a, results)
			}
			if len(results) != 2 || a.waiting.Load() != 2 {
				t.Fatalf("%d entered, %d wait", len(results), a.waiting.Load())
			}
			for range 4 {
				if err := <-results; err != nil {
					t.Error(err)
				}
			}
			if took := time.Since(began); took != 200*time.Millisecond {
				t.Errorf("the last entered after %v", took)
			}
		})
	})
	t.Run("who would wait too long is refused at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, results := newAdmission(limits), make(chan error, 8)
			for range 4 {
				arrive(t.Context(), a, results)
			}
			began := time.Now()
			if err := a.enter(t.Context()); !errors.Is(err, errs.ErrExhausted) || time.Since(began) != 0 || a.refused.Load() != 1 {
				t.Errorf("refused with %v after %v", err, time.Since(began))
			}
			for range 4 {
				entered(t, results)
			}
		})
	})
	t.Run("the queue is bounded", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			patient := limits
			patient.AdmissionWait = time.Hour
			a, results := newAdmission(patient), make(chan error, 8)
			for range 5 {
				arrive(t.Context(), a, results)
			}
			if err := a.enter(t.Context()); !errors.Is(err, errs.ErrExhausted) {
				t.Errorf("one too many: %v", err)
			}
			if a.waiting.Load() != 3 || a.refused.Load() != 1 {
				t.Errorf("%d wait, %d refused", a.waiting.Load(), a.refused.Load())
			}
			for range 5 {
				entered(t, results)
			}
			if a.waiting.Load() != 0 {
				t.Errorf("%d wait in the end", a.waiting.Load())
			}
		})
	})
	t.Run("the end of a client or of the server ends the waiting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, results := newAdmission(limits), make(chan error, 8)
			ctx, cancel := context.WithCancel(t.Context())
			for range 2 {
				arrive(t.Context(), a, results)
				entered(t, results)
			}
			arrive(ctx, a, results)
			cancel()
			if err := <-results; !errors.Is(err, context.Canceled) {
				t.Errorf("the client left: %v", err)
			}
			arrive(t.Context(), a, results)
			close(a.closing)
			if err := <-results; !errors.Is(err, errs.ErrUnavailable) {
				t.Errorf("the server ends: %v", err)
			}
		})
	})
}

// entered waits for somebody who is let in.
func entered(t *testing.T, results <-chan error) {
	t.Helper()
	if err := <-results; err != nil {
		t.Error(err)
	}
}

// TestAdmissionOfSockets has more clients than the server takes at once.
func TestAdmissionOfSockets(t *testing.T) {
	h := start(t, Config{Limits: Limits{AdmissionRate: 0.001, AdmissionBurst: 1, AdmissionWait: time.Hour, AdmissionQueue: 1}})
	h.enter(t, "first")
	waits := make(chan *http.Response, 1)
	go func() {
		_, resp, err := h.dialQuery(t, "?auth=u&channelId=c", nil)
		if err == nil {
			t.Error("the second is accepted")
		}
		waits <- resp
	}()
	eventually(t, "the second waits", func() bool { n, _ := h.Waiting(); return n == 1 })
	_, resp, err := h.dialQuery(t, "?auth=u&channelId=c", nil)
	if err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Fatalf("the third: %v, %v", resp, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := h.Close(ctx, wire.CloseGoingAway, "over"); err != nil {
		t.Error(err)
	}
	if resp := <-waits; resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the second is answered %v at the end", resp)
	}
}
