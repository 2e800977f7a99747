// Package load owns simulated users of the voice backend: each joins a channel
// over the real signaling protocol, connects real ICE, DTLS and SRTP, and sends
// or receives paced audio packets whose delivery is counted exactly.
//
// One engine goroutine receives for all users with the kernel's arrival times and
// sends the hearers' RTCP; one pacer goroutine sends for all speakers. Each is
// locked to a thread that waits in raw system calls. Each user has one goroutine
// for its signaling socket. Run starts them and waits for all of them.
//
// For a measure of what sending costs at least, Run starts this program once more
// as a bare sending loop (ServeFloor), which is measured in turns with the worker.
//
// The package must not import the supervisor or the packages of its sockets: it
// stands outside, as a client does.
package load
