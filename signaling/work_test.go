package signaling

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestWork: only so many compute at once, in order, and one that waits for somebody
// else makes room.
func TestWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWork()
		n := cap(w.places)
		began := time.Now()
		var done []func()
		for range n {
			done = append(done, w.begin())
		}
		later := make(chan time.Duration, n)
		for range n {
			go func() {
				end := w.begin()
				later <- time.Since(began)
				end()
			}()
		}
		synctest.Wait()
		if len(later) != 0 {
			t.Fatalf("%d more work at once", len(later))
		}
		done[0]()
		synctest.Wait()
		if len(later) != n { // each ends at once and lets the next in
			t.Errorf("%d were let in", len(later))
		}
		done = append(done[1:], w.begin())
		go func() {
			end := w.begin()
			later <- time.Since(began)
			end()
		}()
		for range n {
			<-later
		}
		if got := <-later; got != workTime {
			t.Errorf("let in after %v", got)
		}
		for _, end := range done {
			end() // late, and a second release is none
		}
		time.Sleep(time.Second)
		if len(w.places) != 0 {
			t.Errorf("%d places are taken", len(w.places))
		}
	})
}
