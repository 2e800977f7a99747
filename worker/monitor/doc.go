// Package monitor keeps the Go runtime's monitor thread (sysmon) from interrupting the
// media loop.
//
// The runtime takes the loop, which waits in raw system calls, for a goroutine that
// computes without a pause. A hundred times a second its monitor thread wakes up, sees
// it, and asks for a preemption; the loop's goroutine is locked to its thread, so
// giving way takes three or four changes of threads. With one speaker and 200 listeners
// that was a fifth of the worker's CPU. The monitor's waits cannot be set, but
// the kernel may end each of them as late as the thread's timer slack allows
// (prctl(2), PR_SET_TIMERSLACK), and the slack can be made longer, though only by the
// thread itself: Calm sends it a signal whose handler does so.
//
// With less of the monitor's attention, a goroutine that blocks in a system call or
// computes without a pause keeps its processor from others for up to 60 ms instead
// of 10.
package monitor
