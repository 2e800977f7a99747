package faults

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
)

const (
	// Tolerances between two states with the same users, beside those for the
	// restless ones: descriptors and goroutines of each process, and bytes.
	moreDescriptors = 8
	moreGoroutines  = 12
	moreBytes       = 48 << 20
	// settleTimeout bounds the time until the servers are as they were.
	settleTimeout = 20 * time.Second
)

// State is what the servers hold at one moment.
type State struct {
	// Processes counts them by name, those of all workers and the spare together.
	Processes map[string]int `json:"processes"`
	// Descriptors and Resident are the most that one process of the name has.
	Descriptors map[string]int   `json:"descriptors"`
	Resident    map[string]int64 `json:"residentBytes"`
	// Goroutines are those of the supervisor, and the most of a worker.
	Goroutines map[string]int `json:"goroutines"`
	Zombies    int            `json:"zombies"`
}

// state reads it.
func (s *server) state(ctx context.Context) (State, error) {
	st := State{
		Processes: map[string]int{}, Descriptors: map[string]int{}, Resident: map[string]int64{},
		Goroutines: map[string]int{},
	}
	for _, p := range descendants() {
		if p.state == "Z" {
			st.Zombies++
			continue
		}
		st.Processes[p.name]++
		files := 0
		for _, n := range descriptors(p.pid) {
			files += n
		}
		st.Descriptors[p.name] = max(st.Descriptors[p.name], files)
		st.Resident[p.name] = max(st.Resident[p.name], resident(p.pid))
	}
	status, body, err := s.get(ctx, "/metrics")
	if err != nil || status != http.StatusOK {
		return st, fmt.Errorf("metrics: status %d: %w", status, err)
	}
	for line := range strings.Lines(body) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, _, _ = strings.Cut(name, "{")
		process := map[string]string{"go_goroutines": "supervisor", "dspeak_worker_goroutines": "worker"}[name]
		if n, err := strconv.ParseFloat(value, 64); process != "" && err == nil {
			st.Goroutines[process] = max(st.Goroutines[process], int(n))
		}
	}
	return st, nil
}

// grown says what there is more of than before, beyond what so many users who come
// and go may make of difference.
func (st State) grown(before State, restless int) error {
	for name, n := range st.Processes {
		if n > before.Processes[name] {
			return fmt.Errorf("%d processes %s, %d before: %w", n, name, before.Processes[name], errs.ErrExhausted)
		}
	}
	for name, n := range st.Descriptors {
		more := moreDescriptors
		if name == "supervisor" { // who has a socket for each user
			more += restless
		}
		if was := before.Descriptors[name]; n > was+more {
			return fmt.Errorf("%d descriptors of %s, %d before: %w", n, name, was, errs.ErrExhausted)
		}
	}
	for name, n := range st.Goroutines {
		if was := before.Goroutines[name]; n > was+moreGoroutines+4*restless {
			return fmt.Errorf("%d goroutines of %s, %d before: %w", n, name, was, errs.ErrExhausted)
		}
	}
	for name, n := range st.Resident {
		if was := before.Resident[name]; n > was+was/2+moreBytes {
			return fmt.Errorf("%d MiB of %s, %d before: %w", n>>20, name, was>>20, errs.ErrExhausted)
		}
	}
	if st.Zombies > 0 {
		return fmt.Errorf("%d zombies: %w", st.Zombies, errs.ErrExhausted)
	}
	return nil
}

// notGrown waits until the servers hold no more than before.
func (s *server) notGrown(ctx context.Context, before State, restless int) (now State, err error) {
	err = await(ctx, settleTimeout, func() error {
		var err error
		if now, err = s.state(ctx); err != nil {
			return err
		}
		return now.grown(before, restless)
	})
	return now, err
}

// empty waits until the servers know of nobody: all have left.
func (s *server) empty(ctx context.Context) error {
	return await(ctx, grace+settleTimeout, func() error {
		channels, err := s.admin.ListChannels(ctx, &adminv1.ListChannelsRequest{})
		if err != nil {
			return fmt.Errorf("list channels: %w", err)
		}
		if n := len(channels.GetChannels()); n > 0 {
			return fmt.Errorf("%d channels are left: %w", n, errs.ErrExhausted)
		}
		workers, err := s.workers(ctx)
		if err != nil {
			return err
		}
		for _, w := range workers {
			if n := w.GetChannels() + w.GetTransports() + w.GetProducers() + w.GetConsumers(); n > 0 {
				return fmt.Errorf("%d objects are left in worker %d: %w", n, w.GetSlot(), errs.ErrExhausted)
			}
		}
		return nil
	})
}
