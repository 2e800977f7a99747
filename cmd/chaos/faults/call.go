package faults

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/dspeak/sfu/cmd/loadgen/load"
)

// call is what all users share: who is there, and who should hear whom.
type call struct {
	url     string
	clients *load.Clients
	pacer   *pacer
	notes   *notes
	tally   tally
	seed    maphash.Seed
	users   []*user
	// restless channels have users who come and go.
	restless map[string]bool

	// voices is by producer id; a sync.Map, since the receiving goroutine reads it
	// with an ear's lock held.
	voices sync.Map

	mu    sync.Mutex
	ears  map[*ear]bool // of all open transports, guarded by mu
	proof Proof         // of the closed ones, guarded by mu
}

func newCall(cfg Config, url string, clients *load.Clients, n *notes) *call {
	c := &call{
		url: url, clients: clients, notes: n, seed: maphash.MakeSeed(), pacer: newPacer(cfg.Seed, cfg.Repeat),
		restless: map[string]bool{}, ears: map[*ear]bool{},
	}
	restless, tcp := cfg.Restless, cfg.TCP
	for i := range cfg.Channels * cfg.Users {
		channel := fmt.Sprintf("channel-%d", i/cfg.Users)
		u := &user{
			call: c, channel: channel, name: fmt.Sprintf("%s-user-%d", channel, i%cfg.Users),
			random: rand.New(rand.NewPCG(cfg.Seed, uint64(1000+i))), //nolint:gosec // repeatable, not secret
		}
		if stays := cfg.Users / 2; i%cfg.Users >= stays && restless > 0 {
			u.restless = true
			c.restless[channel] = true
			restless--
		} else if i%cfg.Users == 0 && tcp > 0 {
			u.tcp = true
			tcp--
		}
		c.users = append(c.users, u)
	}
	return c
}

// quiet says whether nobody comes or goes in the user's channel.
func (c *call) quiet(u *user) bool { return !c.restless[u.channel] }

func (c *call) voice(producer string) *voice {
	if v, ok := c.voices.Load(producer); ok {
		return v.(*voice) //nolint:forcetypeassert // nothing else is stored
	}
	return nil
}

// listens begins to count what an ear hears.
func (c *call) listens(e *ear) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ears[e] = true
}

// joined notes that the user is in the call.
func (c *call) joined(u *user) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u.since, u.online = time.Now(), true
}

// socket notes whether the user has a signaling socket.
func (c *call) socket(u *user, online bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if online {
		u.returns++
	}
	u.online = online
}

// returns is how often each user in the call has come back on a new socket.
func (c *call) returns() map[*user]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[*user]int{}
	for _, u := range c.users {
		if !u.since.IsZero() {
			all[u] = u.returns
		}
	}
	return all
}

// away names users who were in the call, are still, and have not come back since.
func (c *call) away(before map[*user]int, since time.Time) (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for u, n := range before {
		if !u.since.IsZero() && u.since.Before(since) && (u.returns == n || !u.online) {
			names = append(names, u.name)
		}
	}
	return names
}

// speaks notes that the user is to be heard.
func (c *call) speaks(u *user, producer string, v *voice) {
	c.voices.Store(producer, v)
	c.mu.Lock()
	u.producer, u.spoke = producer, time.Now()
	c.mu.Unlock()
	c.pacer.begin(v)
}

// silent notes that the user is not to be heard any more.
func (c *call) silent(u *user) (producer string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	producer, u.producer = u.producer, ""
	if producer != "" {
		c.voices.Delete(producer)
	}
	return producer
}

// lost notes that the user's session has ended by no will of its own.
func (c *call) lost(u *user) {
	c.tally.lost()
	if u.voice != nil {
		u.voice.lost.Store(true)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := range c.ears {
		if e.user == u {
			e.lost.Store(true)
		}
	}
}

// left notes that the user is not in the call any more, and what it produced.
func (c *call) left(u *user) (producer string) {
	producer = c.silent(u)
	c.mu.Lock()
	defer c.mu.Unlock()
	u.since, u.ear, u.online = time.Time{}, nil, false
	for e := range c.ears {
		if e.user == u {
			c.proof.add(e.end())
			c.tally.left(0, e.handshakes.Load())
			delete(c.ears, e)
		}
	}
	return producer
}

// proven is what the proof has seen of all.
func (c *call) proven() Proof {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := c.proof
	for e := range c.ears {
		e.mu.Lock()
		sum.add(e.proof)
		e.mu.Unlock()
	}
	return sum
}

// here counts the users in the call.
func (c *call) here() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range c.users {
		if !u.since.IsZero() {
			n++
		}
	}
	return n
}

// windows is what all pairs did between two moments.
type windows struct {
	udp, tcp  []time.Duration
	lost      int64
	lostByTCP int64
}

// open begins a window of all pairs.
func (c *call) open() {
	for _, e := range c.all() {
		e.open()
	}
}

// shut ends it.
func (c *call) shut(into *windows) {
	now := time.Now().UnixNano()
	for _, e := range c.all() {
		e.shut(now, func(overTCP bool, silence time.Duration, lost int64) {
			if overTCP {
				into.tcp = append(into.tcp, silence)
				into.lostByTCP += max(0, lost)
				return
			}
			into.udp = append(into.udp, silence)
			into.lost += max(0, lost)
		})
	}
}

func (c *call) all() []*ear {
	c.mu.Lock()
	defer c.mu.Unlock()
	ears := make([]*ear, 0, len(c.ears))
	for e := range c.ears {
		ears = append(ears, e)
	}
	return ears
}

// Distribution sums up times.
type Distribution struct {
	Count int           `json:"count"`
	P50   time.Duration `json:"p50Ns"`
	P99   time.Duration `json:"p99Ns"`
	Max   time.Duration `json:"maxNs"`
}

func distribution(times []time.Duration) Distribution {
	if len(times) == 0 {
		return Distribution{}
	}
	sorted := slices.Sorted(slices.Values(times))
	at := func(q float64) time.Duration { return sorted[int(q*float64(len(sorted)-1))] }
	return Distribution{Count: len(sorted), P50: at(0.5), P99: at(0.99), Max: sorted[len(sorted)-1]}
}
