package supervisor

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/supervisor/process"
)

// crowd are channels with a user each.
type crowd struct {
	*lab

	sockets []*socket
	asked   []string
}

func newCrowd(l *lab, n int) *crowd {
	c := &crowd{lab: l}
	for i := range n {
		c.sockets = append(c.sockets, l.join("ann", fmt.Sprint("channel-", i)))
	}
	return c
}

// ask has all users ask for a transport at once.
func (c *crowd) ask() { c.askOf(0, len(c.sockets)) }

// askOf is ask for some of the users.
func (c *crowd) askOf(from, to int) {
	if c.asked == nil {
		c.asked = make([]string, len(c.sockets))
	}
	for i := from; i < to; i++ {
		c.asked[i] = c.sockets[i].say("create-transport", "")
	}
}

// served waits until everybody is answered.
func (c *crowd) served() {
	c.t.Helper()
	for i, s := range c.sockets {
		for m := s.next(); m.RequestID != c.asked[i]; m = s.next() {
			continue
		}
	}
}

// hold keeps every CreateRouter from being answered until release is called. decided
// waits until so many are under way.
func (c *crowd) hold() (decided func(n int), release func()) {
	var mu sync.Mutex
	under, open := 0, make(chan struct{})
	for _, w := range c.workers {
		w.hooks(nil, func(_ context.Context, call string) error {
			if call != "CreateRouter" {
				return nil
			}
			mu.Lock()
			under++
			mu.Unlock()
			<-open
			return nil
		})
	}
	decided = func(n int) {
		c.t.Helper()
		await(c.t, fmt.Sprint(n, " channels are being placed"), func() bool {
			mu.Lock()
			defer mu.Unlock()
			return under >= n
		})
	}
	return decided, sync.OnceFunc(func() { close(open) })
}

// spread is how many channels each worker has.
func (l *lab) spread() []int {
	r := l.backend.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := make([]int, len(l.workers))
	for _, ch := range r.channels {
		if ch.router != nil {
			counts[ch.router.slot]++
		}
	}
	return counts
}

// even fails the test unless the channels are spread evenly over some workers.
func (l *lab) even(channels int, over ...int) {
	l.t.Helper()
	counts := l.spread()
	sum, least, most := 0, channels, 0
	for slot, n := range counts {
		sum += n
		if slices.Contains(over, slot) {
			least, most = min(least, n), max(most, n)
		}
	}
	if sum != channels || most > least+1 {
		l.t.Errorf("%d channels are spread as %v", channels, counts)
	}
}

// TestBurst: channels that open at once are spread evenly, although none is placed yet
// when the last worker is chosen.
func TestBurst(t *testing.T) {
	for _, row := range []struct{ channels, workers int }{{4, 4}, {40, 4}, {100, 4}, {7, 1}, {9, 2}, {50, 3}, {100, 8}, {3, 5}} {
		t.Run(fmt.Sprintf("%d on %d", row.channels, row.workers), func(t *testing.T) {
			l := newLab(t, row.workers)
			rng := rand.New(rand.NewPCG(uint64(row.channels), 5))
			for slot := range row.workers { // what idle workers measure
				l.pool.change(ident.Slot(slot), func(w *process.WorkerInfo) { w.Load.Share = 0.09 * rng.Float64() })
			}
			var all sync.WaitGroup
			var mu sync.Mutex
			counts := make([]int, row.workers)
			for i := range row.channels {
				ch := &channel{id: ident.ChannelID(fmt.Sprint("channel-", i)), placing: &placing{over: make(chan struct{})}}
				l.backend.registry.mu.Lock()
				l.backend.registry.channels[ch.id] = ch
				l.backend.registry.mu.Unlock()
				all.Go(func() {
					r, _ := l.backend.decideNow(ch, nil)
					mu.Lock()
					defer mu.Unlock()
					counts[r.slot]++
				})
			}
			all.Wait()
			if slices.Max(counts) > slices.Min(counts)+1 {
				t.Errorf("spread as %v", counts)
			}
		})
	}
}

// TestBurstWithADeath has a worker die while a hundred channels open. On a machine
// without time some calls run out of theirs and go elsewhere, hence the room.
func TestBurstWithADeath(t *testing.T) {
	for name, row := range map[string]struct {
		die  func(c *crowd)
		over []int
		most int
	}{
		"its successor goes on": {func(c *crowd) {
			over := c.pool.interrupt(0)
			c.askOf(50, 60)
			c.events(process.Event{Kind: process.EventTakeover, Epoch: 1, Generation: 2, Cause: "signal: killed"})
			over()
		}, []int{0, 1, 2, 3}, 27},
		"its state is lost, and it comes back": {func(c *crowd) {
			c.crash(0)
			c.recover(0)
			c.askOf(0, 60) // those who lost their transport, too
		}, []int{0, 1, 2, 3}, 27},
		"its state is lost, and it stays away": {func(c *crowd) {
			c.crash(0)
			c.askOf(0, 60)
		}, []int{1, 2, 3}, 35},
		"it is drained": {func(c *crowd) {
			if err := c.backend.drain(0, 0); err != nil {
				c.t.Fatal(err)
			}
			c.backend.endChannels(0)
			c.askOf(0, 60)
		}, []int{1, 2, 3}, 35},
		"it refuses": {func(c *crowd) {
			c.workers[0].hooks(func(_ context.Context, call string) error {
				if call == "CreateRouter" {
					return errs.ErrExhausted
				}
				return nil
			}, nil)
			c.crash(0) // and loses what it had
			c.recover(0)
			c.askOf(0, 60)
		}, []int{1, 2, 3}, 35},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrowd(newLab(t, 4), 100)
			c.askOf(0, 50)
			row.die(c)
			c.askOf(60, 100)
			c.served()
			c.askOf(0, 100) // whoever was refused in the middle asks again, as clients do
			c.served()
			counts := c.spread()
			sum := 0
			for slot, n := range counts {
				sum += n
				if n > row.most || (n > 0) != slices.Contains(row.over, slot) {
					t.Errorf("worker %d has %d of %v", slot, n, counts)
				}
			}
			if sum != 100 {
				t.Errorf("%d channels are placed", sum)
			}
			for _, slot := range row.over { // one that lost its state may carry out a late call
				c.agrees(ident.Slot(slot))
			}
		})
	}
}

// TestOutage: when a worker loses its state, its channels are placed anew at once, and
// evenly; a worker that comes back gets the next ones.
func TestOutage(t *testing.T) {
	c := newCrowd(newLab(t, 4), 100)
	c.ask()
	c.served()
	c.even(100, 0, 1, 2, 3)
	c.crash(2)
	c.ask()
	c.served()
	c.even(100, 0, 1, 3)
	c.recover(2)
	for i := range 33 {
		c.join("bob", fmt.Sprint("late-", i)).transport()
	}
	c.even(133, 0, 1, 2, 3)
}

// TestBurstAtTheNextSupervisor: what adopted workers carry counts from the start.
func TestBurstAtTheNextSupervisor(t *testing.T) {
	l := newLab(t, 4)
	for slot := range 3 { // as if those had come later
		l.pool.change(ident.Slot(slot+1), func(w *process.WorkerInfo) { w.State = process.StateStarting })
	}
	newCrowd(l, 20).askAndServe()
	for slot := range 3 {
		l.pool.change(ident.Slot(slot+1), func(w *process.WorkerInfo) { w.State = process.StateReady })
	}
	l.succeed(time.Minute)
	c := &crowd{lab: l}
	for i := range 80 {
		c.sockets = append(c.sockets, l.join("bob", fmt.Sprint("new-", i)))
	}
	c.ask()
	c.served()
	l.even(100, 0, 1, 2, 3)
}

func (c *crowd) askAndServe() {
	c.t.Helper()
	c.ask()
	c.served()
}

// TestLargeChannelsCount: a channel counts with its consumers, and while its clients
// come back, with those that it had.
func TestLargeChannelsCount(t *testing.T) {
	now := time.Now()
	ch := &channel{users: []*user{{}}}
	if got := ch.weightLocked(now); got != 0 {
		t.Errorf("a user alone counts as %d consumers", got)
	}
	for range 199 {
		ch.users = append(ch.users, &user{})
	}
	if got := ch.weightLocked(now); got != 199 {
		t.Errorf("200 users who are about to listen count as %d consumers", got)
	}
	for range 1000 {
		ch.users[0].consumers = append(ch.users[0].consumers, &consumer{})
	}
	if got := ch.weightLocked(now); got != 1000 {
		t.Errorf("1000 consumers count as %d", got)
	}
	ch.carried, ch.users[0].consumers, ch.placed = 1000, nil, now
	if got := ch.weightLocked(now.Add(returnTime / 2)); got != 1000 {
		t.Errorf("while the clients come back the channel counts as %d", got)
	}
	if got := ch.weightLocked(now.Add(2 * returnTime)); got != 199 {
		t.Errorf("after that it counts as %d", got)
	}
}

// TestDrainDuringAPlacement: a channel that was on its way to the drained worker goes to
// another.
func TestDrainDuringAPlacement(t *testing.T) {
	l := newLab(t, 2)
	c := newCrowd(l, 1)
	decided, release := c.hold()
	c.ask()
	decided(1)
	if err := l.backend.drain(0, 0); err != nil {
		t.Fatal(err)
	}
	if err := l.backend.awaitDrained(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	release()
	c.served()
	if got := l.spread(); !slices.Equal(got, []int{0, 1}) {
		t.Errorf("spread as %v", got)
	}
	l.holds(0, [4]int{})
}

// TestEveryDecisionIsEven: whatever arrives, leaves, fails, dies and is measured, each
// channel goes to a worker that has the fewest, counted by the test itself.
func TestEveryDecisionIsEven(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 11))
			workers := 2 + rng.IntN(5)
			m := &model{lab: newLab(t, workers), rng: rng, on: map[*channel]*router{}, committed: map[*channel]bool{}}
			for range 800 {
				m.step()
			}
		})
	}
}

// model counts by itself where the channels of a lab are.
type model struct {
	*lab

	rng       *rand.Rand
	on        map[*channel]*router
	committed map[*channel]bool
	count     int
}

func (m *model) step() {
	m.t.Helper()
	slot := ident.Slot(m.rng.IntN(len(m.workers)))
	switch n := m.rng.IntN(100); {
	case n < 45:
		m.count++
		ch := &channel{id: ident.ChannelID(fmt.Sprint("channel-", m.count)), placing: &placing{over: make(chan struct{})}}
		r := m.backend.registry
		r.mu.Lock()
		r.channels[ch.id] = ch
		r.mu.Unlock()
		m.decide(ch, map[ident.Slot]bool{})
	case n < 70:
		if ch := m.any(false); ch != nil {
			m.finish(ch)
		}
	case n < 85:
		if ch := m.any(m.rng.IntN(2) == 0); ch != nil { // it empties, placed or not
			r := m.backend.registry
			r.mu.Lock()
			delete(r.channels, ch.id)
			r.mu.Unlock()
			delete(m.on, ch)
		}
	case n < 90:
		if ch := m.any(false); ch != nil { // the worker refuses it
			m.decide(ch, map[ident.Slot]bool{m.on[ch].slot: true})
		}
	case n < 93:
		m.crash(slot)
		for ch, r := range m.on {
			if r.slot == slot && m.committed[ch] {
				delete(m.on, ch)
			}
		}
		if m.rng.IntN(3) > 0 {
			m.recover(slot)
		}
	case n < 95:
		m.pool.Drain(slot, m.rng.IntN(2) == 0)
	default: // figures of any age that say what idle workers say
		m.pool.change(slot, func(w *process.WorkerInfo) {
			w.Load = process.Load{Share: 0.1 * m.rng.Float64(), Since: time.Now().Add(-time.Duration(m.rng.IntN(1000)) * time.Microsecond)}
		})
	}
}

// any is a channel, placed or on its way; nil: there is none.
func (m *model) any(committed bool) *channel {
	all := slices.DeleteFunc(slices.Collect(maps.Keys(m.on)), func(ch *channel) bool { return m.committed[ch] != committed })
	if len(all) == 0 {
		return nil
	}
	slices.SortFunc(all, func(a, b *channel) int { return cmp.Compare(m.on[a].id, m.on[b].id) })
	return all[m.rng.IntN(len(all))]
}

// decide has a worker chosen and looks whether it is one of the right ones.
func (m *model) decide(ch *channel, refused map[ident.Slot]bool) {
	m.t.Helper()
	delete(m.on, ch)
	infos := m.pool.Workers()
	counts := make([]int, len(infos))
	for _, r := range m.on {
		if infos[r.slot].Epoch == r.epoch {
			counts[r.slot]++
		}
	}
	least := -1
	for slot, w := range infos {
		if serves(w) && !w.Draining && !refused[w.Slot] && (least < 0 || counts[slot] < least) {
			least = counts[slot]
		}
	}
	r, _ := m.backend.decideNow(ch, refused)
	switch {
	case r == nil && least >= 0:
		m.t.Fatalf("no worker is chosen of %+v", infos)
	case r == nil:
		m.backend.registry.mu.Lock()
		delete(m.backend.registry.channels, ch.id)
		m.backend.registry.mu.Unlock()
		return
	case least < 0 || counts[r.slot] > least:
		m.t.Fatalf("worker %d is chosen, where they have %v", r.slot, counts)
	}
	m.on[ch] = r
	w := m.workers[r.slot]
	w.mu.Lock()
	w.routers[string(r.id)] = true
	w.mu.Unlock()
}

// finish ends a placement: the channel is placed, or has to be placed anew.
func (m *model) finish(ch *channel) {
	m.t.Helper()
	c := &call{backend: m.backend}
	r := m.on[ch]
	if _, err := c.placed(m.t.Context(), ch, r, nil); err != nil {
		m.t.Fatal(err)
	}
	m.backend.registry.mu.Lock()
	placed := ch.router == r
	ch.placing = &placing{over: make(chan struct{})}
	m.backend.registry.mu.Unlock()
	if placed {
		m.committed[ch] = true
		return
	}
	m.decide(ch, map[ident.Slot]bool{})
}
