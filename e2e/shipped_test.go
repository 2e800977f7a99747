package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const repeatedConsume = "Already consuming this producer"

// TestShippedClient replays what the app's web client does on the wire, with
// the mediasoup-client that it ships.
func TestShippedClient(t *testing.T) {
	main := newMainServer(t)
	// The client waits two seconds before it dials again.
	s := startServer(t, settings{main: main, env: map[string]string{"SFU_GRACE_MS": "15000"}})
	sc := newScene(t, s, lab.shared(t, chromium), shipped)
	replay := map[string]any{"replay": true}
	a := sc.join(t, "ann", replay)
	b := sc.join(t, "bob", replay)
	if !t.Run("both hear each other", func(t *testing.T) {
		a.hearsReplayed(t, b)
		b.hearsReplayed(t, a)
	}) {
		return
	}
	if !t.Run("it asks again and again and gets each producer once", func(t *testing.T) {
		testRepeatedConsume(t, a, b)
	}) {
		return
	}
	if !t.Run("it redials, and its old transports go on", func(t *testing.T) {
		testShippedRedial(t, a, b)
	}) {
		return
	}
	if !t.Run("it unmutes by a fresh produce", func(t *testing.T) {
		testShippedMute(t, a, b)
	}) {
		return
	}
	t.Run("its own media session is whole", func(t *testing.T) {
		for _, u := range sc.users {
			if state := u.state(t); len(state.Failures) > 0 {
				t.Errorf("%s: %v", u.name, state.Failures)
			}
		}
	})
}

// hearsReplayed is for a client that may hear itself: it asks for its own
// producer when the announcement overtakes its own bookkeeping.
func (u *user) hearsReplayed(t *testing.T, other *user) {
	t.Helper()
	before := -1.0
	eventually(t, hearTimeout, func() error {
		if err := u.present(t, other); err != nil {
			return err
		}
		now := u.inbound(t)[other.name].Packets
		if before < 0 {
			before = now
		}
		if now <= before {
			return fmt.Errorf("%s gets no packets of %s", u.name, other.name)
		}
		return nil
	})
}

func testRepeatedConsume(t *testing.T, a, b *user) {
	t.Helper()
	for _, u := range []*user{a, b} {
		state := u.state(t)
		consumed := count(state.Events, "consumer-params")
		// A producer that was replaced while the request was on its way is gone.
		for _, text := range state.Errors {
			if text != repeatedConsume && !strings.Contains(text, "producer not found") {
				t.Errorf("%s got %q", u.name, text)
			}
		}
		if state.Starts != 2 || state.Sent["produce"] != 2 {
			t.Errorf("%s produced %d times while joining, the shipped client does twice", u.name, state.Sent["produce"])
		}
		if state.Sent["consume"] != consumed+len(state.Errors) {
			t.Errorf("%s: %d requests, %d consumers, errors %v", u.name, state.Sent["consume"], consumed, state.Errors)
		}
	}
	// Who was there first sees the other's producer announced in three ways.
	if errors := a.state(t).Errors; !slices.Contains(errors, repeatedConsume) {
		t.Errorf("%s: no repeated request was refused: %v", a.name, errors)
	}
}

func testShippedRedial(t *testing.T, a, b *user) {
	t.Helper()
	before := b.state(t)
	ids := transportIDs(t, b)
	a.watch(t, b)
	b.watch(t, a)
	b.call(t, "dropSocket")
	eventually(t, hearTimeout, func() error {
		if state := b.state(t); state.Sockets != before.Sockets+1 || state.Ignored < before.Ignored+2 {
			return fmt.Errorf("%d sockets, %d transports ignored", state.Sockets, state.Ignored)
		}
		return nil
	})
	a.hearsReplayed(t, b)
	b.hearsReplayed(t, a)
	for _, listener := range []*user{a, b} {
		if gap := listener.gap(t); gap > 400*time.Millisecond {
			t.Errorf("%s had %v of silence", listener.name, gap)
		}
	}
	if !slices.Equal(transportIDs(t, b), ids) || b.state(t).Producer != before.Producer {
		t.Error("the client's media is not the old one")
	}
}

func testShippedMute(t *testing.T, a, b *user) {
	t.Helper()
	old := b.state(t)
	b.call(t, "mute")
	eventually(t, hearTimeout, func() error { return toneAway(t, a, b) })
	b.call(t, "unmute")
	eventually(t, hearTimeout, func() error {
		if state := b.state(t); state.Producer == old.Producer || state.Producer == "" {
			return fmt.Errorf("producer is %q", state.Producer)
		}
		return nil
	})
	a.hearsReplayed(t, b)
	eventually(t, hearTimeout, func() error {
		if owners := a.state(t).Owners; owners[old.Producer] != "" {
			return fmt.Errorf("the replaced producer is still announced: %v", owners)
		}
		return nil
	})
}

func count(all []string, wanted string) int {
	n := 0
	for _, each := range all {
		if each == wanted {
			n++
		}
	}
	return n
}
