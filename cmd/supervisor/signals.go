package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// untilSignals returns a context that ends with the first signal to stop, and one
// that ends with the second; upgrade has a message for each SIGHUP that somebody was ready for.
func untilSignals() (ctx, hurry context.Context, upgrade <-chan struct{}, ignore func()) {
	hurry, end := context.WithCancel(context.Background())
	ctx, stop := context.WithCancel(hurry)
	signals, hangups, asked := make(chan os.Signal, 2), make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for {
			select {
			case <-hangups:
			case <-hurry.Done():
				return
			}
			select {
			case asked <- struct{}{}:
			default: // an upgrade is under way
			}
		}
	}()
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
	return ctx, hurry, asked, func() { signal.Stop(signals); signal.Stop(hangups); end() }
}
