package main

import (
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/dspeak/sfu/internal/obs"
)

// openOutput makes the service independent of whoever reads its output: neither a reader
// that stands still or closes nor a full disk stops it. It returns where log lines go.
func openOutput() *obs.Sink {
	// The runtime ends a program that writes to a closed stderr unless somebody wants the
	// signal. An ignored one would be ignored in the workers, too. The kernel ends one that
	// exceeds its file size limit.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE, syscall.SIGXFSZ)
	// A background job that writes to a terminal with "stty tostop" would be stopped.
	signal.Ignore(syscall.SIGTTOU)
	for _, fd := range []int{syscall.Stdout, syscall.Stderr} {
		_ = obs.Unblock(fd) // the log never waits; a library's own line, or a panic's text, may
	}
	sink := obs.NewSink(syscall.Stderr)
	log.SetOutput(sink) // what libraries say
	return sink
}
