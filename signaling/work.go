package signaling

import (
	"runtime"
	"sync"
	"time"
)

const (
	// workPerCPU is how many sockets a processor works for at once.
	workPerCPU = 8
	// workTime is how long a piece of work keeps its place. One that takes longer waits
	// for somebody else and needs no processor.
	workTime = 10 * time.Millisecond
)

// work bounds how much is to be computed at once. When a thousand clients ask in the same
// moment, a thousand goroutines would be ready to run, and an answer to a ping would wait
// until each of them had its turn. So the others wait here, in the order of arrival.
// Any goroutine may use it.
type work struct{ places chan struct{} }

func newWork() *work {
	return &work{places: make(chan struct{}, workPerCPU*runtime.GOMAXPROCS(0))}
}

// begin waits for a place. The caller calls done at the end.
func (w *work) begin() (done func()) {
	w.places <- struct{}{}
	release := sync.OnceFunc(func() { <-w.places })
	timer := time.AfterFunc(workTime, release)
	return func() {
		timer.Stop()
		release()
	}
}
