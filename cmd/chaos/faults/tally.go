package faults

import (
	"errors"
	"sync"
	"time"
)

// Counts is what users met.
type Counts struct {
	// Messages are unasked signaling messages: all of them in channels whose users
	// stay, and everywhere those that tell of a disturbance.
	Messages map[string]int `json:"messages"`
	// SessionsLost are users that had to begin anew after they had joined.
	SessionsLost int `json:"sessionsLost"`
	// JoinsRepeated are users who met a fault while they joined, and reloaded.
	JoinsRepeated int `json:"joinsRepeated"`
	// SocketsReturned are signaling sockets that were lost, dialled again and told
	// that the session is restored.
	SocketsReturned int `json:"socketsReturned"`
	// TCPRedials are media connections over TCP that their clients dialled again.
	TCPRedials uint64 `json:"tcpRedials"`
	// Handshakes are DTLS datagrams that came after the first handshake.
	Handshakes uint64 `json:"handshakes"`
}

// tally counts for all users.
type tally struct {
	mu     sync.Mutex
	counts Counts          // guarded by mu
	away   []time.Duration // of each socket that came back, guarded by mu
}

// message books an unasked message.
func (t *tally) message(u *user, m message) {
	switch m.Type {
	case "transport-closed", "force_disconnect", "server-restarting", "server-shutdown", "error":
	case "pong", "connected":
		return
	default:
		if !u.call.quiet(u) {
			return
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts.Messages == nil {
		t.counts.Messages = map[string]int{}
	}
	t.counts.Messages[m.Type]++
}

// messages is their number now.
func (t *tally) messages() (sum int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.counts.Messages {
		sum += n
	}
	return sum
}

func (t *tally) lost() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.SessionsLost++
}

func (t *tally) repeated() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.JoinsRepeated++
}

func (t *tally) returned(away time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.SocketsReturned++
	t.away = append(t.away, away)
}

func (t *tally) left(redials, handshakes uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.TCPRedials += redials
	t.counts.Handshakes += handshakes
}

// read returns the counts and the times without a socket.
func (t *tally) read() (Counts, []time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts, append([]time.Duration(nil), t.away...)
}

// errFatal ends the run.
var errFatal = errors.New("the run cannot go on")
