package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/signaling"
	"github.com/dspeak/sfu/signaling/wire"
)

// stormSize is how many clients lose their sockets at once.
const stormSize = 1000

// TestStorm: a thousand clients come back at the same time. They are let in one after
// another, all of them, and find their sessions; somebody else is served meanwhile.
func TestStorm(t *testing.T) {
	// However slowly they come, two come within 2.5 ms somewhere.
	l := newLab(t, 2, func(l *lab) { l.limits = signaling.Limits{AdmissionBurst: 1, Rate: 1e6} })
	bystander := l.join("eve", "elsewhere")
	bystander.connect(bystander.transport())
	clients := l.storm(false)
	for _, c := range clients {
		_ = c.Close()
	}
	await(t, "all sockets are gone", func() bool { return l.openSockets() == 1 })
	done := make(chan []*websocket.Conn)
	go func() { done <- l.storm(true) }()
	await(t, "some wait", func() bool { n, _ := l.sockets.Waiting(); return n > 0 })
	for served := false; !served; {
		bystander.transport() // a control call, in the middle of it
		bystander.must("close-transport", fmt.Sprintf(`{"transportId":%q}`, l.newestTransport("eve", "elsewhere")), "transport-closed")
		select {
		case clients = <-done:
			served = true
		default:
		}
	}
	if _, refused := l.sockets.Waiting(); refused != 0 || l.openSockets() != stormSize+1 {
		t.Errorf("%d clients are refused, %d are in", refused, l.openSockets())
	}
	for _, c := range clients {
		_ = c.Close()
	}
}

func (l *lab) newestTransport(user ident.UserID, channel ident.ChannelID) ident.TransportID {
	r := l.backend.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.channels[channel].user(user).transports
	return all[len(all)-1].id
}

// storm has all clients dial at once, ten in a channel, and returns when each is
// greeted as one that comes back, or not.
func (l *lab) storm(back bool) []*websocket.Conn {
	clients := make([]*websocket.Conn, stormSize)
	faults := make([]error, stormSize)
	var all sync.WaitGroup
	for i := range stormSize {
		all.Go(func() { clients[i], faults[i] = l.stormClient(i, back) })
	}
	all.Wait()
	if err := errors.Join(faults...); err != nil {
		l.t.Error(err)
	}
	l.t.Cleanup(func() {
		for _, c := range clients {
			if c != nil {
				_ = c.Close()
			}
		}
	})
	return clients
}

func (l *lab) stormClient(i int, back bool) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	query := url.Values{"auth": {fmt.Sprint("user-", i)}, "channelId": {fmt.Sprint("channel-", i/10)}}
	header := http.Header{"X-Forwarded-For": {fmt.Sprintf("192.0.2.%d", i%250)}}
	conn, resp, err := websocket.DefaultDialer.DialContext(ctx, l.url+"?"+query.Encode(), header)
	if err != nil {
		if resp != nil {
			return nil, fmt.Errorf("client %d is answered %s: %w", i, resp.Status, err)
		}
		return nil, fmt.Errorf("client %d: %w", i, err)
	}
	want := wire.MessageConnected
	if back {
		want = wire.MessageRestored
	}
	_ = conn.SetReadDeadline(time.Now().Add(2 * patience))
	for {
		var m message
		if err := conn.ReadJSON(&m); err != nil {
			return conn, fmt.Errorf("client %d: %w", i, err)
		}
		if m.Type == "connected" {
			if got := m.field("message"); got != want {
				return conn, fmt.Errorf("client %d is greeted by %q", i, got) //nolint:err113 // for a person
			}
			return conn, nil
		}
	}
}
