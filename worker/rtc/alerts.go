package rtc

import "github.com/dspeak/sfu/worker/handshake"

// alertQueue bounds the DTLS alerts that wait to be checked. Who is dropped is
// closed by consent expiry instead.
const alertQueue = 256

// alertCheck is a datagram that looks like an alert of a finished connection.
type alertCheck struct {
	state, datagram []byte
	closed          func() // called when the alert is authentic and ends the connection
}

// alertChecker tells authentic alerts from forged ones, on a goroutine of its own:
// one check costs as much as forwarding hundreds of packets.
type alertChecker struct{ jobs chan alertCheck }

func newAlertChecker() alertChecker { return alertChecker{jobs: make(chan alertCheck, alertQueue)} }

// offer queues a check; false: the queue is full. It belongs to the loop, as close does.
func (a alertChecker) offer(job alertCheck) bool {
	select {
	case a.jobs <- job:
		return true
	default:
		return false
	}
}

func (a alertChecker) close() { close(a.jobs) }

// run checks until close.
func (a alertChecker) run() {
	for job := range a.jobs {
		if closed, err := handshake.ParseAlert(job.state, job.datagram); err == nil && closed {
			job.closed()
		}
	}
}
