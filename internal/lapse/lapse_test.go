package lapse

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestPauseCostsASlice looks at a countdown as a timer does, and late once.
func TestPauseCostsASlice(t *testing.T) {
	for name, row := range map[string]struct {
		limit, pause time.Duration
		after        int // the slice that ends late; 0: none
		want         time.Duration
	}{
		"no pause":                       {8 * time.Second, 0, 0, 8 * time.Second},
		"a pause shorter than a slice":   {8 * time.Second, 500 * time.Millisecond, 3, 8*time.Second + 500*time.Millisecond},
		"a long pause":                   {8 * time.Second, time.Hour, 3, 8*time.Second + time.Hour},
		"a long pause at once":           {8 * time.Second, time.Hour, 1, 8*time.Second + time.Hour},
		"a long pause of a long limit":   {time.Hour, 2 * time.Hour, 30, 3 * time.Hour},
		"a pause in the very last slice": {8 * time.Second, time.Hour, 8, 8*time.Second + time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1000, 0)
			began, c := now, newCountdown(row.limit, now)
			for slice, over := 1, false; !over; slice++ {
				now = now.Add(c.next())
				if slice == row.after {
					now = now.Add(row.pause)
				}
				over = c.pass(now)
			}
			if took := now.Sub(began); took != row.want {
				t.Fatalf("took %v, want %v", took, row.want)
			}
		})
	}
}

func TestTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, fired := time.Now(), make(chan time.Duration, 1)
		fire := func() { fired <- time.Since(began) }
		AfterFunc(time.Minute, fire)
		if got := <-fired; got != time.Minute {
			t.Errorf("fired after %v", got)
		}
		began = time.Now()
		again := AfterFunc(time.Minute, fire)
		time.Sleep(59 * time.Second)
		again.Restart()
		if got := <-fired; got != 119*time.Second {
			t.Errorf("restarted after 59 s, fired after %v", got)
		}
		if again.Restart(); again.Stop() {
			t.Error("it can be stopped after it fired")
		}
		stopped := AfterFunc(time.Minute, fire)
		if !stopped.Stop() || stopped.Stop() {
			t.Error("it is not stopped once")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(fired) != 0 {
			t.Error("a stopped timer fired")
		}
	})
}

func TestWithTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := WithTimeout(t.Context(), time.Minute)
		child, cancelChild := context.WithCancel(ctx)
		defer cancelChild()
		began := time.Now()
		<-child.Done()
		if took := time.Since(began); took != time.Minute || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Errorf("ended after %v with %v", took, ctx.Err())
		}
		if !errors.Is(child.Err(), context.DeadlineExceeded) {
			t.Errorf("the child ended with %v", child.Err())
		}
		cancel()
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Errorf("then %v", ctx.Err())
		}
	})
}

func TestWithTimeoutEndsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := WithTimeout(t.Context(), time.Minute)
		cancel()
		if <-ctx.Done(); !errors.Is(ctx.Err(), context.Canceled) {
			t.Errorf("canceled, it ends with %v", ctx.Err())
		}
		parent, end := context.WithTimeout(t.Context(), time.Second)
		defer end()
		ctx, cancel = WithTimeout(parent, time.Minute)
		defer cancel()
		if <-ctx.Done(); !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Errorf("after its parent it ends with %v", ctx.Err())
		}
		late, cancelLate := WithTimeout(parent, time.Minute)
		defer cancelLate()
		if !errors.Is(late.Err(), context.DeadlineExceeded) {
			t.Errorf("of a parent that has ended it begins with %v", late.Err())
		}
	})
}
