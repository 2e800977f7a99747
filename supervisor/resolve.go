package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/dspeak/sfu/internal/config"
	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/obs"
)

const (
	// resolveTimeout bounds one look-up. A resolver asks a second server when the first
	// was silent for 5 s.
	resolveTimeout = 15 * time.Second
	// firstTimeout bounds how long the start waits for the first look-ups.
	firstTimeout = time.Second
	// hastyTimeout bounds the short look-ups that go on beside the long ones until the
	// first answer: a question that was lost, since nobody was there, is asked anew.
	hastyTimeout = 2 * time.Second
	// The pauses between attempts until the first answer.
	firstPause   = 200 * time.Millisecond
	longestPause = 2 * time.Second
)

// lookupAlone resolves a name with a resolver of its own: look-ups of one name by the same
// resolver share a question, and would wait for the answer to one that was lost.
func lookupAlone(ctx context.Context, network, name string) ([]netip.Addr, error) {
	return (&net.Resolver{}).LookupNetIP(ctx, network, name)
}

// run keeps the addresses fresh until ctx ends: each name is looked up at once and again
// and again until its first answer, then at the configured interval.
func (a *addresses) run(ctx context.Context) {
	var parts sync.WaitGroup
	for _, n := range a.names {
		if _, err := netip.ParseAddr(n.name); err != nil {
			parts.Go(func() { a.follow(ctx, n) })
		}
	}
	if a.local {
		parts.Go(func() { a.every(ctx, a.readMachine) })
	}
	parts.Wait()
	<-ctx.Done() // literals have nothing to do, and the end of a part ends the service
}

// refresh looks everything up once and waits for the answers, though not for long.
func (a *addresses) refresh(ctx context.Context) {
	var parts sync.WaitGroup
	for _, n := range a.names {
		if _, err := netip.ParseAddr(n.name); err != nil {
			parts.Go(func() { a.look(ctx, n, firstTimeout) })
		}
	}
	if a.local {
		a.readMachine()
	}
	parts.Wait()
}

// follow keeps the answer for one name fresh.
func (a *addresses) follow(ctx context.Context, n *announcedName) {
	first, done := context.WithCancel(ctx)
	defer done()
	var attempts sync.WaitGroup
	for _, limit := range []time.Duration{hastyTimeout, resolveTimeout} {
		attempts.Go(func() {
			a.insist(first, n, limit)
			done() // the other need not go on
		})
	}
	attempts.Wait()
	a.every(ctx, func() { a.look(ctx, n, resolveTimeout) })
}

// insist looks a name up until it has an answer and there is something to announce: an
// answer may lack the family that is served, since half of the question was lost.
func (a *addresses) insist(ctx context.Context, n *announcedName, limit time.Duration) {
	pauses := &backoff.ExponentialBackOff{InitialInterval: firstPause, RandomizationFactor: 0.25, Multiplier: 1.5, MaxInterval: longestPause}
	pauses.Reset()
	timer := time.NewTimer(pauses.NextBackOff())
	defer timer.Stop()
	for !a.has(n) || !a.isKnown() {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		a.look(ctx, n, limit)
		timer.Reset(pauses.NextBackOff())
	}
}

// every calls f at the configured interval.
func (a *addresses) every(ctx context.Context, f func()) {
	ticker := time.NewTicker(max(a.cfg.ResolveInterval, time.Second))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f()
		}
	}
}

func (a *addresses) has(n *announcedName) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(n.found) > 0
}

// look looks a name up once. The last good answer stays when that fails.
func (a *addresses) look(ctx context.Context, n *announcedName, limit time.Duration) {
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	found, err := a.lookup(bounded, n.network, n.name)
	if ctx.Err() != nil {
		return // given up, not failed
	}
	if err == nil {
		found, err = a.usable(found)
	}
	a.note(n, found, err)
}

// usable leaves the addresses out that no client reaches.
func (a *addresses) usable(found []netip.Addr) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, addr := range found {
		addr = addr.Unmap()
		if config.Announceable(addr) && (!a.production || !addr.IsLoopback()) {
			out = append(out, addr)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no client reaches what it resolves to, %v: %w", found, errs.ErrUnavailable)
	}
	return out, nil
}

// note books the result of a look-up. It logs the first failure, the end of failures, and
// another answer.
func (a *addresses) note(n *announcedName, found []netip.Addr, err error) {
	log := a.log.With(slog.String("name", n.name), slog.String("network", n.network))
	a.mu.Lock()
	before, wasFailing := n.found, n.failing
	n.failing = err != nil
	if err == nil {
		n.found = found
		a.noteKnownLocked()
	}
	a.mu.Unlock()
	switch {
	case err != nil && wasFailing:
	case err != nil && len(before) == 0:
		log.Warn("announced host name not resolved: it is tried again until it is", obs.Err(err))
	case err != nil:
		log.Warn("announced host name not resolved: the last answer is used", obs.Err(err), slog.Any("addresses", before))
	case wasFailing:
		log.Info("announced host name resolved", slog.Any("addresses", found))
	case len(before) > 0 && !sameAddresses(before, found):
		log.Info("announced host name has other addresses", slog.Any("before", before), slog.Any("addresses", found))
	}
}

// sameAddresses compares without regard to the order, which resolvers change at will.
func sameAddresses(a, b []netip.Addr) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, netip.Addr.Compare)
	slices.SortFunc(b, netip.Addr.Compare)
	return slices.Equal(a, b)
}

func (a *addresses) readMachine() {
	machine := machineAddresses()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.machine = machine
	a.noteKnownLocked()
}
