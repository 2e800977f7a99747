// Package crowd owns the measurement of many users in one channel: how long until all
// of them are in and know of each other, what it costs the supervisor and each user,
// and how long a user of another channel waits for an answer meanwhile.
//
// Each user has two goroutines, one that reads and, during a phase, one that asks. The
// other channel's user is a process of its own, so that its clock does not wait for the
// crowd's goroutines. All of them end before Run returns.
package crowd
