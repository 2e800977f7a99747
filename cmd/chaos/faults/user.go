package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/dspeak/sfu/cmd/loadgen/load"
	"github.com/dspeak/sfu/internal/errs"
)

const (
	// joinTimeout bounds one attempt to join.
	joinTimeout = 20 * time.Second
	// reloadAfter is how long a person looks at a broken call before reloading it.
	reloadAfter = 300 * time.Millisecond
	// The pauses before dialling again grow from the first to the last.
	firstRedial, lastRedial = 100 * time.Millisecond, 2 * time.Second
	// churnEvery is the mean time between two acts of a restless user.
	churnEvery = 3 * time.Second
	// closeTimeout bounds the end of one transport.
	closeTimeout = 5 * time.Second
)

// user is one simulated user. Its goroutine owns what is not guarded by the call.
type user struct {
	call     *call
	name     string
	channel  string
	restless bool // joins, leaves and produces anew all the time
	tcp      bool
	random   *rand.Rand

	socket *socket
	send   *load.Link
	recv   *load.Link
	voice  *voice
	mid    int
	seen   map[string]bool
	queue  []string // producers to consume
	taken  error    // why the server ended the session

	// Guarded by call.mu.
	ear      *ear      // nil unless joined
	since    time.Time // when it joined
	producer string    // "" while it is silent
	spoke    time.Time // when it produced
	online   bool      // has a signaling socket
	returns  int       // how often it came back on a new one
}

// run joins, stays and leaves until the context ends.
func (u *user) run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := u.visit(ctx)
		u.leave(ctx, err == nil)
		switch {
		case err == nil && ctx.Err() == nil:
			pause(ctx, u.wait(churnEvery/3)) // a restless one, who comes back
		case ctx.Err() != nil:
		case errors.Is(err, errFatal):
			return err
		default:
			pause(ctx, reloadAfter)
		}
	}
	return nil
}

// visit is one stay. It is nil when the user leaves on purpose.
func (u *user) visit(ctx context.Context) error {
	u.taken, u.seen, u.queue, u.mid = nil, map[string]bool{}, nil, 0
	if err := u.join(ctx); err != nil {
		if ctx.Err() == nil {
			u.call.tally.repeated()
			u.call.notes.remark("%s joins again: %v", u.name, err)
		}
		return err
	}
	u.call.joined(u)
	err := u.stay(ctx)
	if err != nil && ctx.Err() == nil {
		u.call.lost(u)
		u.call.notes.fault("%s lost its session: %v", u.name, err)
	}
	return err
}

func (u *user) join(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	if err := u.dial(ctx); err != nil {
		return err
	}
	if err := u.request(ctx, "get-rtp-capabilities", "rtp-capabilities", nil, nil); err != nil {
		return err
	}
	if err := u.request(ctx, "client-rtp-capabilities", "rtp-capabilities-ack", u.call.clients.Capabilities(), nil); err != nil {
		return err
	}
	var err error
	if u.send, err = u.open(ctx, "send", newEar(u, u.tcp)); err != nil {
		return err
	}
	ear := newEar(u, u.tcp)
	if u.recv, err = u.open(ctx, "recv", ear); err != nil {
		return err
	}
	u.call.mu.Lock()
	u.ear = ear
	u.call.mu.Unlock()
	if err := u.produce(ctx); err != nil {
		return err
	}
	return u.consumeQueued(ctx)
}

// dial opens the signaling socket; it tries again as long as it may.
func (u *user) dial(ctx context.Context) error {
	for wait := firstRedial; ; wait = min(wait*2, lastRedial) {
		s, err := dial(ctx, u.call.url, u.name, u.channel)
		if err == nil {
			u.socket = s
			return nil
		}
		pause(ctx, wait/2+u.wait(wait))
		if ctx.Err() != nil {
			return err
		}
	}
}

func (u *user) request(ctx context.Context, request, answer string, data, into any) error {
	if err := u.socket.call(ctx, request, answer, data, into, u.event); err != nil {
		return err
	}
	return u.taken
}

// open makes a transport and connects it.
func (u *user) open(ctx context.Context, direction string, ear *ear) (*load.Link, error) {
	var params json.RawMessage
	if err := u.request(ctx, "create-transport", "transport-params", map[string]string{"type": direction}, &params); err != nil {
		return nil, err
	}
	var named struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(params, &named); err != nil {
		return nil, fmt.Errorf("decode transport-params: %w", err)
	}
	if err := u.request(ctx, "connect-transport", "transport-connected", u.call.clients.ConnectRequest(named.ID), nil); err != nil {
		return nil, err
	}
	link, err := u.call.clients.Open(params, u.tcp, ear)
	if err != nil {
		return nil, err
	}
	u.call.listens(ear)
	if err := u.connected(ctx, link); err != nil {
		return nil, errors.Join(err, u.end(ctx, link))
	}
	return link, nil
}

// connected waits for the handshake, which the server may give up meanwhile.
func (u *user) connected(ctx context.Context, link *load.Link) error {
	for {
		m, read, err := u.socket.next(ctx, link.Done())
		switch {
		case err != nil:
			return err
		case !read:
			return link.Wait(ctx)
		case m.Type == "transport-closed" && m.TransportID == link.ID():
			return fmt.Errorf("transport-closed (%s) before it was connected: %w", m.Reason, errs.ErrUnavailable)
		}
		if err := u.event(m); err != nil {
			return err
		}
	}
}

// produce begins to speak, with a new voice in the place of an older one.
func (u *user) produce(ctx context.Context) error {
	u.hush()
	v := newVoice(u.name, u.send, u.tcp, u.random)
	var own struct {
		ID string `json:"id"`
	}
	mid := strconv.Itoa(u.mid)
	u.mid++
	err := u.request(ctx, "produce", "producer-id", u.call.clients.ProduceRequest(u.send.ID(), mid, u.name, v.ssrc), &own)
	if err != nil {
		return err
	}
	u.seen[own.ID] = true // nobody consumes what is its own
	u.voice = v
	u.call.speaks(u, own.ID, v)
	return nil
}

// hush falls silent.
func (u *user) hush() {
	u.call.silent(u)
	if u.voice != nil {
		u.call.pacer.end(u.voice)
		u.voice = nil
	}
}

// event books a message that is no answer.
func (u *user) event(m message) error {
	ours := (u.send != nil && u.send.ID() == m.TransportID) || (u.recv != nil && u.recv.ID() == m.TransportID)
	if ours || m.Type != "transport-closed" {
		u.call.tally.message(u, m)
	}
	switch m.Type {
	case "transport-closed":
		if ours {
			u.taken = fmt.Errorf("%w: transport-closed (%s)", errTaken, m.Reason)
		}
	case "force_disconnect":
		u.taken = fmt.Errorf("%w: force_disconnect (%s)", errTaken, m.Reason)
	}
	announced, err := load.Announced(m.Type, m.Data, m.Producers)
	if err != nil {
		return err
	}
	for _, id := range announced {
		if !u.seen[id] {
			u.seen[id] = true
			u.queue = append(u.queue, id)
		}
	}
	return nil
}

// consumeQueued consumes every producer that was announced.
func (u *user) consumeQueued(ctx context.Context) error {
	for len(u.queue) > 0 {
		id := u.queue[0]
		u.queue = u.queue[1:]
		var params struct {
			UserID        string `json:"userId"`
			RtpParameters struct {
				Encodings []struct {
					SSRC uint32 `json:"ssrc"`
				} `json:"encodings"`
			} `json:"rtpParameters"`
		}
		err := u.request(ctx, "consume", "consumer-params", map[string]any{"producerId": id, "transportId": u.recv.ID()}, &params)
		if errors.Is(err, errRefused) && strings.Contains(err.Error(), "producer not found") {
			continue // its speaker has left meanwhile; else the oracle finds it missing
		}
		if err != nil {
			return err
		}
		if params.UserID == u.name || len(params.RtpParameters.Encodings) != 1 {
			continue
		}
		ssrc := params.RtpParameters.Encodings[0].SSRC
		if err := u.recv.Hear(ssrc); err != nil {
			return err
		}
		u.ear.listen(ssrc, id) // written by this goroutine only
	}
	return nil
}

// stay is the call, until the user leaves it.
func (u *user) stay(ctx context.Context) error {
	for ctx.Err() == nil {
		err := u.consumeQueued(ctx)
		if err == nil && u.restless {
			var left bool
			if left, err = u.act(ctx); left {
				return nil
			}
		}
		if err == nil {
			err = u.idle(ctx)
		}
		if errors.Is(err, errSocket) {
			err = u.redial(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// idle reads messages until there is something to do.
func (u *user) idle(ctx context.Context) error {
	wake := make(chan struct{})
	if u.restless {
		timer := time.AfterFunc(u.wait(2*churnEvery), func() { close(wake) })
		defer timer.Stop()
	}
	for len(u.queue) == 0 {
		m, ok, err := u.socket.next(ctx, wake)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil || !ok {
			return err
		}
		if err := u.event(m); err != nil {
			return err
		}
		if u.taken != nil {
			return u.taken
		}
	}
	return nil
}

// act lets a restless user do something: speak anew, or leave.
func (u *user) act(ctx context.Context) (left bool, err error) {
	switch u.random.IntN(6) {
	case 0:
		return true, nil
	case 1, 2:
		return false, u.produce(ctx)
	}
	return false, nil
}

// redial comes back on a new socket as the shipped client does: it keeps its
// transports, and asks for two new ones whose answers it ignores.
func (u *user) redial(ctx context.Context) error {
	u.socket.close()
	u.call.socket(u, false)
	began := time.Now()
	for {
		if err := u.dial(ctx); err != nil {
			return err
		}
		err := u.greeted(ctx)
		if err == nil {
			break
		}
		if !errors.Is(err, errSocket) {
			return err
		}
		u.socket.close()
	}
	u.call.socket(u, true)
	u.call.tally.returned(time.Since(began))
	if err := u.request(ctx, "client-rtp-capabilities", "rtp-capabilities-ack", u.call.clients.Capabilities(), nil); err != nil {
		return err
	}
	for _, direction := range []string{"send", "recv"} {
		if err := u.request(ctx, "create-transport", "transport-params", map[string]string{"type": direction}, nil); err != nil {
			return err
		}
	}
	return nil
}

// greeted waits for the greeting, which must tell of a restored session.
func (u *user) greeted(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	for {
		m, ok, err := u.socket.next(ctx, limit.Done())
		switch {
		case err != nil:
			return err
		case !ok:
			return fmt.Errorf("%w: no greeting within %v", errSocket, answerTimeout)
		case m.Type == "connected" && !strings.Contains(string(m.Data), "restored"):
			return fmt.Errorf("%w: %s", errTaken, m.Data)
		case m.Type == "connected":
			return nil
		}
		if err := u.event(m); err != nil {
			return err
		}
	}
}

// leave gives up everything; politely means that the server is told.
func (u *user) leave(ctx context.Context, politely bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	producer := u.call.left(u)
	if u.voice != nil {
		u.call.pacer.end(u.voice)
		u.voice = nil
	}
	if politely && u.socket != nil {
		if producer != "" {
			_ = u.request(ctx, "close-producer", "producer-closed", map[string]string{"producerId": producer}, nil)
		}
		for _, link := range []*load.Link{u.send, u.recv} {
			if link != nil { // who has gone need not be told
				_ = u.request(ctx, "close-transport", "transport-closed", map[string]string{"transportId": link.ID()}, nil)
			}
		}
	}
	if u.socket != nil {
		u.socket.close()
		u.socket = nil
	}
	for _, link := range []*load.Link{u.send, u.recv} {
		if link != nil {
			u.call.notes.error(u.end(ctx, link))
		}
	}
	u.send, u.recv = nil, nil
}

// end closes a link.
func (u *user) end(ctx context.Context, link *load.Link) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	u.call.tally.left(link.Redials(), 0)
	return link.Close(ctx)
}

// wait is a random time up to the limit.
func (u *user) wait(limit time.Duration) time.Duration {
	return time.Duration(u.random.Int64N(int64(limit)) + 1)
}

// pause returns early when the context ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
