package interop

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/interop/wire"
)

func join(u ident.UserID, c ident.ChannelID) wire.MediaPresence {
	return wire.MediaPresence{Event: wire.EventJoin, UserID: u, ChannelID: c, Time: time.Now()}
}

func leave(u ident.UserID, c ident.ChannelID) wire.MediaPresence {
	return wire.MediaPresence{Event: wire.EventLeave, UserID: u, ChannelID: c, Time: time.Now()}
}

func TestLinkSends(t *testing.T) {
	main := newMainServer(t)
	l := newLink(t, LinkConfig{BaseURL: main.url, Backend: &fakeBackend{snapshot: func() []ChannelUsers {
		return []ChannelUsers{{"c", []ident.UserID{"u", "v"}}, {"d", []ident.UserID{"w"}}}
	}}})
	l.Send(join("lost", "x")) // while it is down: dropped
	stop := start(t, l)
	m := main.accept(t)
	if got := m.syncs(t, 2); got["c"] != "u,v" || got["d"] != "w" {
		t.Errorf("syncs %v", got)
	}
	if !l.Connected() {
		t.Error("not connected")
	}
	for i := range 100 {
		l.Send(join(ident.UserID(fmt.Sprint(i)), "c"))
	}
	for i := range 100 {
		if got := m.next(t); got.Type != "media_presence" || got.Event != "join" || got.UserID != fmt.Sprint(i) || got.ChannelID != "c" || got.Timestamp == "" {
			t.Fatalf("message %d is %+v", i, got)
		}
	}
	l.Send(wire.SfuStatus{Status: wire.StatusError, Details: "planned stop"})
	go stop()
	if got := m.next(t); got.Details != "planned stop" {
		t.Errorf("at the end: %+v", got)
	}
	if _, _, err := m.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Errorf("ended with %v", err)
	}
	stop()
	if l.Connected() {
		t.Error("still connected")
	}
}

func TestLinkReconnects(t *testing.T) {
	main := newMainServer(t)
	var mu sync.Mutex
	users := []ChannelUsers{{"stays", []ident.UserID{"u"}}, {"empties", []ident.UserID{"u"}}}
	log := &lines{}
	l, _ := run(t, LinkConfig{BaseURL: main.url, Log: log.logger(), Backend: &fakeBackend{snapshot: func() []ChannelUsers {
		mu.Lock()
		defer mu.Unlock()
		return users
	}}})
	m := main.accept(t)
	m.syncs(t, 2)
	l.Send(join("v", "joined"))
	m.next(t)

	for range 3 { // the main server comes back and is refused, too
		main.refuse <- struct{}{}
	}
	_ = m.Close()
	eventually(t, "the link is down", func() bool { return !l.Connected() })
	mu.Lock()
	users = []ChannelUsers{{"stays", []ident.UserID{"u", "w"}}, {"new", []ident.UserID{"x"}}}
	mu.Unlock()
	l.Send(leave("v", "joined")) // dropped

	m = main.accept(t)
	if got := fmt.Sprint(m.syncs(t, 4)); got != "map[empties: joined: new:x stays:u,w]" {
		t.Errorf("syncs %s", got)
	}
	for _, want := range []string{"main server connected", "main server away", "status 503", "retry_in"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	if strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("an error is logged:\n%s", log)
	}
}

// TestNothingIsLostAtConnect has events while the snapshot is taken.
func TestNothingIsLostAtConnect(t *testing.T) {
	main := newMainServer(t)
	var l *Link
	ready := make(chan struct{})
	backend := &fakeBackend{snapshot: func() []ChannelUsers {
		<-ready
		l.Send(join("late", "c")) // after the state was read, before it is written
		return []ChannelUsers{{"c", []ident.UserID{"early"}}}
	}}
	l, _ = run(t, LinkConfig{BaseURL: main.url, Backend: backend})
	close(ready)
	m := main.accept(t)
	if got := m.syncs(t, 1); got["c"] != "early" {
		t.Errorf("syncs %v", got)
	}
	if got := m.next(t); got.UserID != "late" {
		t.Errorf("got %+v", got)
	}
}

func TestFirstRetry(t *testing.T) {
	main := newMainServer(t)
	main.refuse <- struct{}{}
	log := &lines{}
	l, err := NewLink(LinkConfig{BaseURL: main.url, Backend: &fakeBackend{}})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	run(t, LinkConfig{BaseURL: main.url, Backend: &fakeBackend{}, Log: log.logger(), RetryMin: l.cfg.RetryMin, RetryMax: l.cfg.RetryMax})
	main.accept(t)
	if took := time.Since(began); took > 2*time.Second || took < 400*time.Millisecond {
		t.Errorf("the first retry came after %v", took)
	}
	if longest := l.cfg.RetryMax * 3 / 2; longest > 30*time.Second {
		t.Errorf("pauses of up to %v", longest)
	}
}

func TestIncoming(t *testing.T) {
	main := newMainServer(t)
	log := &lines{}
	kicked := make(chan string, 1)
	run(t, LinkConfig{BaseURL: main.url, Log: log.logger(), Backend: &fakeBackend{kick: func(u ident.UserID, c ident.ChannelID, reason string) error {
		if u == "stranger" {
			return errors.New("no such user")
		}
		kicked <- string(u) + " " + string(c) + " " + reason
		return nil
	}}})
	m := main.accept(t)
	m.syncs(t, 0)
	m.send(t, `{"type":"force_disconnect","userId":"bob","channelId":"c","reason":"be nice"}`)
	if got := <-kicked; got != "bob c be nice" {
		t.Errorf("kicked %q", got)
	}
	m.send(t, `{"type":"error","data":"remember"}`)
	m.send(t, `not JSON`)
	for _, row := range []struct{ text, want string }{
		{`{}`, "Invalid message format: missing type"},
		{`{"type":"hello"}`, "Unknown message type: hello"},
		{`{"type":"force_disconnect","userId":"bob"}`, "Invalid force_disconnect: missing or invalid channelId"},
		{`{"type":"force_disconnect","userId":"stranger","channelId":"c"}`, "force_disconnect: no such user"},
	} {
		m.send(t, row.text)
		if got := m.next(t); got.Type != "error" || got.Data != row.want {
			t.Errorf("%s is answered with %+v", row.text, got)
		}
	}
	for _, want := range []string{"remember", "not JSON"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
}

func TestKeepalive(t *testing.T) {
	main := newMainServer(t)
	_, stop := run(t, LinkConfig{BaseURL: main.url, Backend: &fakeBackend{}, PingInterval: 50 * time.Millisecond})
	t.Run("a deaf main server is given up", func(t *testing.T) {
		main.accept(t)
		main.accept(t) // without a read, no ping is answered
	})
	t.Run("one that answers is kept", func(t *testing.T) {
		m := main.accept(t)
		m.syncs(t, 0)
		_ = m.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if _, _, err := m.ReadMessage(); err == nil || websocket.IsUnexpectedCloseError(err) {
			t.Errorf("lost: %v", err)
		}
	})
	stop()
}

func TestOverflow(t *testing.T) {
	main := newMainServer(t)
	var l *Link
	ready := make(chan struct{})
	first := true
	log := &lines{}
	l, _ = run(t, LinkConfig{BaseURL: main.url, Log: log.logger(), Queue: 10, Backend: &fakeBackend{snapshot: func() []ChannelUsers {
		<-ready
		if first {
			for range 20 {
				l.Send(join("u", "c"))
			}
		}
		first = false
		return nil
	}}})
	close(ready)
	main.accept(t)
	m := main.accept(t)
	if got := m.syncs(t, 1); got["c"] != "" {
		t.Errorf("syncs %v", got)
	}
	if !strings.Contains(log.String(), "more than 10 messages wait") {
		t.Errorf("the cause is not logged:\n%s", log)
	}
}

// TestSyncsReplaceEachOther: of a channel's syncs that wait only the last one is kept,
// events stay in order around them, and a queue full of replaced ones has room.
func TestSyncsReplaceEachOther(t *testing.T) {
	l, err := NewLink(LinkConfig{BaseURL: "ws://127.0.0.1:1", Queue: 8})
	if err != nil {
		t.Fatal(err)
	}
	l.setUp(true)
	want := []wire.Message{}
	for i := range 100 {
		l.Send(wire.ChannelPresenceSync{ChannelID: "a", UserIDs: []ident.UserID{ident.UserID(strconv.Itoa(i))}})
		if i == 50 || i == 70 {
			l.Send(join("u", "a"))
			want = append(want, join("u", "a"))
		}
	}
	l.Send(wire.ChannelPresenceSync{ChannelID: "b"})
	want = append(want, wire.ChannelPresenceSync{ChannelID: "a", UserIDs: []ident.UserID{"99"}}, wire.ChannelPresenceSync{ChannelID: "b"})
	got, overflow := l.take()
	got = slices.DeleteFunc(got, func(m wire.Message) bool { return m == nil })
	if overflow || len(got) != len(want) {
		t.Fatalf("%v waits, overflow %v", got, overflow)
	}
	for i := range want {
		g, _ := wire.Encode(got[i])
		w, _ := wire.Encode(want[i])
		if _, isEvent := want[i].(wire.MediaPresence); !isEvent && string(g) != string(w) {
			t.Errorf("message %d is %s, want %s", i, g, w)
		} else if reflect.TypeOf(got[i]) != reflect.TypeOf(want[i]) {
			t.Errorf("message %d is %s", i, g)
		}
	}
	l.Send(wire.ChannelPresenceSync{ChannelID: "a"}) // the taken one is not the queue's any more
	if got, _ := l.take(); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

// TestStuckMainServer has one that reads nothing while much is sent.
func TestStuckMainServer(t *testing.T) {
	main := newMainServer(t)
	l, _ := run(t, LinkConfig{BaseURL: main.url, WriteTimeout: 200 * time.Millisecond, Backend: &fakeBackend{}})
	main.accept(t).syncs(t, 0)
	big := strings.Repeat("x", 4<<20)
	for range 10 { // more than the connection holds
		l.Send(wire.SfuStatus{Status: wire.StatusOK, Details: big})
	}
	main.accept(t).syncs(t, 0)
}

// TestPicture has the main server's belief when the last words may be lost.
func TestPicture(t *testing.T) {
	p := picture{channels: map[ident.ChannelID]*channelPicture{}}
	known := func(want string) {
		t.Helper()
		if got := fmt.Sprint(p.known()); got != want {
			t.Errorf("known %s, want %s", got, want)
		}
	}
	p.note(join("u", "a"))
	p.note(wire.ChannelPresenceSync{ChannelID: "b", UserIDs: []ident.UserID{"u", "v"}})
	p.note(wire.MediaPresence{Event: wire.EventRejoin, UserID: "u", ChannelID: "c"})
	p.note(wire.MediaPresence{Event: wire.EventStartProduce, UserID: "u", ChannelID: "d"})
	known("map[a:{} b:{} c:{}]")
	first := p.nextPing()
	p.note(leave("u", "a"))
	p.note(leave("u", "b"))
	p.note(wire.ChannelPresenceSync{ChannelID: "c"})
	p.forget(first) // was sent before they left
	known("map[a:{} b:{} c:{}]")
	second := p.nextPing()
	p.note(wire.MediaPresence{Event: wire.EventStagedLeave, UserID: "v", ChannelID: "b"})
	p.forget(second)
	known("map[b:{}]")
	p.note(leave("v", "b"))
	p.forget(p.nextPing())
	known("map[]")
}
