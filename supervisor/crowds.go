package supervisor

import (
	"context"
	"time"

	"github.com/dspeak/sfu/signaling"
)

// A picture of a crowd costs users times bytes, and each of its users changes it: sent
// with every change, the cost of a join grows with the square of the crowd. So the
// pictures of all crowds together get a fixed rate of bytes, which the crowds that
// change share evenly. A crowd that has been still is told of a change at once. What
// changes meanwhile is in the next picture, which is made when it is sent: the last
// one always comes, and none is older than an event that went out before it.
//
// Over any time T the pictures take at most T times crowdBytes, and one picture of
// each crowd. A newcomer's own picture is not counted: Limits.AdmissionRate bounds it.
const (
	// crowdBytes is how many bytes a second all pictures of crowds may take, before
	// compression.
	crowdBytes = 16 << 20
	// receiverBytes is what a receiver costs beyond the bytes: a system call. With
	// crowdBytes that allows 16,384 receivers a second, a tenth of a CPU.
	receiverBytes = 1 << 10
	// userBytes is how many bytes a second one user gets.
	userBytes = 64 << 10
	// crowdPause is the shortest time between two pictures of a crowd.
	crowdPause = 100 * time.Millisecond
	// A round tells sliceUsers of a crowd and pauses for slicePause, and so on: else all
	// that others want of the process waits until a thousand sockets are written.
	sliceUsers = 32
	slicePause = 5 * time.Millisecond
	// crowdSlack is how much later than it could a picture may be sent, so that time
	// that is rounded makes no timer of no length.
	crowdSlack = time.Millisecond
)

// crowds paces the pictures of all crowds. All fields but wake are guarded by the
// registry's mu.
type crowds struct {
	// wake has a token when the next picture may be due earlier than it was.
	wake chan struct{}
	// moving are the crowds that have something untold, or have not paid for their
	// last picture yet.
	moving map[*channel]struct{}
	// share is how many bytes each moving crowd was allowed so far, up to the time at.
	share float64
	at    time.Time
}

// pace is when a crowd's next picture may go, and the round that is under way.
type pace struct {
	share float64   // once crowds.share has come so far,
	time  time.Time // and not before this time

	round  bool    // one is under way
	rounds uint64  // that have begun: names the last
	cost   float64 // of the round, in bytes
	size   int     // the most bytes that one user got in the round
}

func newCrowds() *crowds {
	return &crowds{wake: make(chan struct{}, 1), moving: map[*channel]struct{}{}}
}

// add has a crowd's picture sent when it is time.
func (c *crowds) add(ch *channel) {
	if _, ok := c.moving[ch]; ok {
		return // it has its turn
	}
	c.advance(time.Now())
	c.moving[ch] = struct{}{}
	ch.pictures.pace.share = max(ch.pictures.pace.share, c.share)
	c.signal()
}

// remove forgets a channel that is no crowd any more.
func (c *crowds) remove(ch *channel) {
	if _, ok := c.moving[ch]; !ok {
		return
	}
	c.advance(time.Now())
	delete(c.moving, ch)
	ch.pictures.pace.round = false
	c.signal() // the others have more now
}

func (c *crowds) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// advance gives the moving crowds their share of the time since the last call.
func (c *crowds) advance(now time.Time) {
	if n := len(c.moving); n > 0 && now.After(c.at) {
		c.share += now.Sub(c.at).Seconds() * crowdBytes / float64(n)
	}
	c.at = now
}

// next returns a crowd that may be told now, or nil and how long to wait for one;
// forever when no crowd moves.
func (c *crowds) next(now time.Time) (*channel, time.Duration) {
	c.advance(now)
	wait := forever
	for ch := range c.moving {
		due := c.due(ch, now)
		switch {
		case due > 0:
			wait = min(wait, due)
		case ch.pictures.pace.round || ch.pictures.untold != 0:
			return ch, 0
		default:
			delete(c.moving, ch) // it has paid
		}
	}
	return nil, wait
}

// forever is the wait for an event.
const forever = time.Duration(1<<63 - 1)

// due is in how long the crowd may be told, as things are now.
func (c *crowds) due(ch *channel, now time.Time) time.Duration {
	p := ch.pictures.pace
	seconds := (p.share - c.share) * float64(len(c.moving)) / crowdBytes
	return max(time.Duration(seconds*float64(time.Second)), p.time.Sub(now))
}

// begin starts a round: everyone in the crowd is told once.
func (c *crowds) begin(ch *channel) {
	p := &ch.pictures.pace
	p.round, p.rounds = true, p.rounds+1
	p.cost, p.size = 0, 0
}

// end ends a round, which is paid for from now on.
func (c *crowds) end(ch *channel, now time.Time) {
	p := &ch.pictures.pace
	p.round = false
	p.share = max(p.share, c.share) + p.cost
	p.time = now.Add(max(crowdPause, time.Duration(p.size)*time.Second/userBytes))
}

// paceCrowds tells crowds of what changed in them until ctx ends.
func (b *backend) paceCrowds(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.crowds.wake:
		case <-timer.C:
		}
		wait := b.tellCrowd(time.Now())
		if wait == forever {
			timer.Stop()
		} else {
			timer.Reset(wait)
		}
	}
}

// tellCrowd tells some users of a crowd that may be told now. It returns how long to
// wait for the next.
func (b *backend) tellCrowd(now time.Time) time.Duration {
	b.registry.mu.Lock()
	defer b.registry.mu.Unlock()
	ch, wait := b.crowds.next(now)
	if ch == nil {
		return max(wait, crowdSlack)
	}
	p := &ch.pictures.pace
	if !p.round {
		b.crowds.begin(ch)
		b.toldLocked(ch)
	}
	told := 0
	for _, u := range ch.users {
		if u.round == p.rounds {
			continue
		}
		if told == sliceUsers {
			return slicePause
		}
		u.round = p.rounds
		if bytes := b.showLocked(u, (*signaling.Session).SendPicture); bytes > 0 {
			told++
			p.cost += float64(bytes + receiverBytes*len(u.sessions))
			p.size = max(p.size, bytes)
		}
	}
	b.crowds.end(ch, now)
	return max(slicePause*time.Duration(told)/sliceUsers, crowdSlack)
}
