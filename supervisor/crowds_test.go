package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspeak/sfu/internal/ident"
)

// paced is a backend of crowds whose users have no sockets, but bytes all the same.
type paced struct {
	*crowds

	channels []*channel
	size     map[*channel]int // bytes of a picture
	told     map[*channel][]time.Time
	bytes    float64
}

// tell is tellCrowd, all slices at once.
func (p *paced) tell(now time.Time) time.Duration {
	ch, wait := p.next(now)
	if ch == nil {
		return max(wait, crowdSlack)
	}
	p.begin(ch)
	ch.pictures.untold = 0
	pace := &ch.pictures.pace
	pace.cost, pace.size = float64(len(ch.users)*(p.size[ch]+receiverBytes)), p.size[ch]
	p.bytes += pace.cost
	p.told[ch] = append(p.told[ch], now)
	p.end(ch, now)
	return crowdSlack
}

// TestCrowdsShareTheRate: crowds of any size change at random. All of them together stay
// within the rate and one picture each, none is told more often than its own bounds
// allow, all get the same share, and all hear the end.
func TestCrowdsShareTheRate(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 1))
				p := &paced{crowds: newCrowds(), size: map[*channel]int{}, told: map[*channel][]time.Time{}}
				once := 0.0 // one picture of each
				for range 1 + rng.IntN(12) {
					ch := &channel{}
					ch.users = make([]*user, crowdAbove+1+rng.IntN(1000))
					p.size[ch] = 1000 + rng.IntN(200)*len(ch.users)
					once += float64(len(ch.users) * (p.size[ch] + receiverBytes))
					p.channels = append(p.channels, ch)
				}
				began := time.Now()
				for time.Since(began) < time.Minute {
					for range rng.IntN(3) {
						ch := p.channels[rng.IntN(len(p.channels))]
						ch.pictures.untold = changeUsers
						p.add(ch)
					}
					time.Sleep(min(p.tell(time.Now()), time.Duration(rng.IntN(20))*time.Millisecond))
					if most := time.Since(began).Seconds()*crowdBytes + once; p.bytes > most*1.0001 {
						t.Fatalf("%.0f bytes after %v, want at most %.0f", p.bytes, time.Since(began), most)
					}
				}
				changed := time.Now()
				for wait := time.Duration(0); wait != forever; wait = p.tell(time.Now()) {
					time.Sleep(wait)
				}
				for _, ch := range p.channels {
					if ch.pictures.untold != 0 {
						t.Errorf("a crowd of %d waits", len(ch.users))
					}
					least := max(crowdPause, time.Duration(p.size[ch])*time.Second/userBytes)
					for i, at := range p.told[ch][:max(len(p.told[ch])-1, 0)] {
						if next := p.told[ch][i+1]; next.Sub(at) < least {
							t.Errorf("a crowd of %d is told after %v, want %v", len(ch.users), next.Sub(at), least)
						}
					}
				}
				if took := time.Since(changed); took > time.Duration(2*once/crowdBytes*float64(time.Second))+2*time.Minute {
					t.Errorf("the last picture came after %v", took)
				}
				if len(p.moving) != 0 {
					t.Errorf("%d still crowds move", len(p.moving))
				}
			})
		})
	}
}

// TestSmallCrowdBesideALargeOne: one that changes all the time leaves the other its share.
func TestSmallCrowdBesideALargeOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		large, small := &channel{users: make([]*user, 5000)}, &channel{users: make([]*user, 30)}
		p := &paced{crowds: newCrowds(), size: map[*channel]int{large: 400_000, small: 6000}, told: map[*channel][]time.Time{}}
		p.channels = []*channel{large, small}
		for began := time.Now(); time.Since(began) < 10*time.Second; {
			for _, ch := range p.channels {
				ch.pictures.untold = changeUsers
				p.add(ch)
			}
			time.Sleep(min(p.tell(time.Now()), 10*time.Millisecond))
		}
		if n := len(p.told[small]); n < 80 {
			t.Errorf("the small one is told %d times in 10 s", n)
		}
		if n := len(p.told[large]); n != 1 {
			t.Errorf("the large one is told %d times, of which each takes two minutes", n)
		}
	})
}

// viewer is a client that keeps what it is told, and complains when it is contradicted.
type viewer struct {
	name   string
	socket *socket

	mu       sync.Mutex
	users    []string        // of the last picture; guarded by mu
	present  map[string]bool // producers, by pictures and events; guarded by mu
	closed   map[string]bool // guarded by mu
	own      map[string]bool // its own producers so far; guarded by mu
	pictures int             // guarded by mu
	faults   []string        // guarded by mu
	done     chan struct{}
}

// watch reads all messages of the viewer until its socket ends.
func (v *viewer) watch() {
	defer close(v.done)
	for {
		_, text, err := v.socket.conn.ReadMessage()
		if err != nil {
			return
		}
		var m message
		if err := json.Unmarshal(text, &m); err != nil {
			v.fault("%s: %v", text, err)
		}
		v.see(m)
	}
}

func (v *viewer) fault(format string, args ...any) {
	v.faults = append(v.faults, v.name+": "+fmt.Sprintf(format, args...))
}

func (v *viewer) see(m message) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch m.Type {
	case "currentlyInChannel":
		v.pictures++
		v.users = m.InRoom
		v.seeProducers(m.Producers)
		if !slices.Contains(m.InRoom, v.name) {
			v.fault("not in the picture")
		}
	case "available-producers":
		var data struct{ Producers []string }
		_ = json.Unmarshal(m.Data, &data)
		v.seeProducers(data.Producers)
	case "producer-id": // it ends the user's former one without another word
		v.own[m.field("id")] = true
	case "new-producer":
		if p := m.field("producerId"); v.closed[p] {
			v.fault("%s starts after its end", p)
		} else {
			v.present[p] = true
		}
	case "producer-closed":
		delete(v.present, m.field("producerId"))
		v.closed[m.field("producerId")] = true
	}
}

// seeProducers: a picture never takes an event back.
func (v *viewer) seeProducers(all []string) {
	now := map[string]bool{}
	for _, p := range all {
		if now[p] = true; v.closed[p] {
			v.fault("a picture has %s, which was closed", p)
		}
	}
	for p := range v.present {
		if !now[p] && !v.own[p] {
			v.fault("a picture lacks %s, of which no end was told", p)
		}
	}
	v.present = now
}

// view joins a user that watches.
func (l *lab) view(name, channel string) *viewer {
	l.t.Helper()
	v := &viewer{name: name, present: map[string]bool{}, closed: map[string]bool{}, own: map[string]bool{}, done: make(chan struct{})}
	s, first := l.enter(name, channel)
	wantTypes(l.t, name, first, "currentlyInChannel", "connected")
	v.socket = s
	for _, m := range first {
		v.see(m)
	}
	_ = s.conn.SetReadDeadline(time.Time{})
	go v.watch()
	l.t.Cleanup(func() {
		_ = s.conn.Close()
		<-v.done
	})
	return v
}

// truth is who is in a channel, and its producers.
func (l *lab) truth(id ident.ChannelID) (users, producers []string) {
	r := l.backend.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	ch := r.channels[id]
	if ch == nil {
		return nil, nil
	}
	for _, u := range ch.users {
		users = append(users, string(u.id))
	}
	for _, p := range ch.producers {
		producers = append(producers, string(p.id))
	}
	return users, producers
}

// sees reports whether the viewer's picture is that.
func (v *viewer) sees(users, producers []string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	slices.Sort(producers)
	return slices.Equal(v.users, users) && slices.Equal(slices.Sorted(maps.Keys(v.present)), producers)
}

// TestPicturesOfCrowds: users come, go, come back, speak and fall silent at random in
// channels around the size at which a crowd begins. What each is told is in order, not
// too often, and right in the end; so is what the main server is told.
func TestPicturesOfCrowds(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			l := newLab(t, 2, func(l *lab) { l.backend.grace = time.Millisecond })
			rng := rand.New(rand.NewPCG(seed, 7))
			most := []int{crowdAbove - 2, crowdAbove + 3, 60}[seed%3]
			began := time.Now()
			changes := 0
			var in []*viewer
			for step := range 250 {
				switch n := rng.IntN(10); {
				case len(in) < most && (n < 5 || len(in) < most*2/3):
					in = append(in, l.view(fmt.Sprint("u", step), "c"))
					changes++
				case n < 7:
					i := rng.IntN(len(in))
					_ = in[i].socket.conn.Close()
					<-in[i].done
					in = slices.Delete(in, i, i+1)
					changes += 2 // with its producer
				default:
					v := in[rng.IntN(len(in))]
					v.socket.say("create-transport", "")
					v.socket.say("produce", fmt.Sprintf(`{"kind":"audio","rtpParameters":%s}`, rtp))
					changes += 2
				}
			}
			await(t, "everyone sees the truth", func() bool {
				users, producers := l.truth("c")
				return len(users) == len(in) && !slices.ContainsFunc(in, func(v *viewer) bool { return !v.sees(users, producers) })
			})
			took := time.Since(began)
			rounds := int(took/crowdPause) + 2
			for _, v := range in {
				v.mu.Lock()
				if len(v.faults) > 0 {
					t.Error(strings.Join(v.faults, "\n"))
				}
				if most == 60 && v.pictures > rounds+2*crowdAbove+changes/4 {
					t.Errorf("%s got %d pictures of %d changes within %v", v.name, v.pictures, changes, took)
				}
				v.mu.Unlock()
			}
			users, _ := l.truth("c")
			want := fmt.Sprintf(`{"channelId":"c","type":"channel_presence_sync","userIds":["%s"]}`, strings.Join(users, `","`))
			await(t, "the main server knows the truth", func() bool { return l.main.lastSync() == want })
		})
	}
}

// lastSync is the last channel_presence_sync.
func (m *mainServer) lastSync() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, told := range slices.Backward(m.told) {
		if strings.Contains(told, "channel_presence_sync") {
			return told
		}
	}
	return ""
}

// TestCrowdIsToldInRounds: while a crowd of 100 gathers, each of its users gets few
// pictures and every event, and so does the main server.
func TestCrowdIsToldInRounds(t *testing.T) {
	const size = 100
	l := newLab(t, 1)
	began := time.Now()
	var all []*viewer
	for i := range size {
		v := l.view(fmt.Sprint("u", i), "c")
		v.socket.say("create-transport", "")
		v.socket.say("produce", fmt.Sprintf(`{"kind":"audio","rtpParameters":%s}`, rtp))
		all = append(all, v)
	}
	await(t, "everyone sees everyone", func() bool {
		users, producers := l.truth("c")
		return len(producers) == size && !slices.ContainsFunc(all, func(v *viewer) bool { return !v.sees(users, producers) })
	})
	most := 3*crowdAbove + int(time.Since(began)/crowdPause) + 2
	for _, v := range all {
		v.mu.Lock()
		if v.pictures > most {
			t.Errorf("%s got %d pictures, want at most %d", v.name, v.pictures, most)
		}
		if len(v.faults) > 0 {
			t.Error(strings.Join(v.faults, "\n"))
		}
		v.mu.Unlock()
	}
	syncs, joins := 0, 0
	for _, told := range l.main.take() {
		if strings.Contains(told, "channel_presence_sync") {
			syncs++
		}
		if strings.Contains(told, `"event":"join"`) {
			joins++
		}
	}
	if joins != size || syncs > most {
		t.Errorf("the main server is told of %d joins, with %d syncs, want at most %d", joins, syncs, most)
	}
}

// TestStillCrowdIsToldAtOnce: one who joins or speaks after a while is shown within a
// round, however long the crowd would pause for another.
func TestStillCrowdIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{registry: newRegistry(), crowds: newCrowds(), presence: silence{}, log: slog.New(slog.DiscardHandler)}
		ch := &channel{id: "c"}
		for i := range 1000 {
			ch.addUser(&user{id: ident.UserID(fmt.Sprint(i)), channel: ch})
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go b.paceCrowds(ctx)
		for range 3 {
			time.Sleep(time.Hour)
			b.registry.mu.Lock()
			b.changedLocked(ch, changeUsers)
			b.registry.mu.Unlock()
			synctest.Wait()
			b.registry.mu.Lock()
			told := 0
			for _, u := range ch.users {
				if u.seen == ch.pictures.version {
					told++
				}
			}
			b.registry.mu.Unlock()
			if told == 0 {
				t.Error("nobody is told at once")
			}
		}
	})
}
