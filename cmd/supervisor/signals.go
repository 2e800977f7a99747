package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// untilSignals returns a context that ends with the first signal to stop, and one
// that ends with the second.
func untilSignals() (ctx, hurry context.Context, ignore func()) {
	hurry, end := context.WithCancel(context.Background())
	ctx, stop := context.WithCancel(hurry)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for _, cancel := range []func(){stop, end} {
			select {
			case <-signals:
				cancel()
			case <-hurry.Done():
				return
			}
		}
	}()
	return ctx, hurry, func() { signal.Stop(signals); end() }
}
