package handshake

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/dspeak/sfu/internal/errs"
)

// closedLink is a finished handshake and the close_notify of the peer.
func closedLink(tb testing.TB, role Role) (state, closeNotify []byte) {
	tb.Helper()
	p := newPool(tb, Config{})
	l := newLink(tb, p, setup{role: role})
	r := l.mustFinish()
	l.close()
	all := l.theirs()
	closeNotify = all[len(all)-1]
	if !holds(closeNotify, typeAlert, 1) {
		tb.Fatalf("the peer's last datagram is no alert: %x", closeNotify)
	}
	return r.State, closeNotify
}

func TestParseAlert(t *testing.T) {
	for _, role := range []Role{Server, Client} {
		state, notify := closedLink(t, role)
		otherState, otherNotify := closedLink(t, role)
		flip := func(i int) []byte {
			b := bytes.Clone(notify)
			b[i] ^= 1
			return b
		}
		cut := notify[:len(notify)-1]
		plain := append(append([]byte{typeAlert, 0xfe, 0xfd, 0, 0}, notify[5:11]...), 0, 2, 1, 0)
		for _, tc := range []struct {
			name     string
			state    []byte
			datagram []byte
			want     bool
		}{
			{"close_notify", state, notify, true},
			{"the same again", state, notify, true},
			{"of another session", state, otherNotify, false},
			{"with another session's state", otherState, notify, false},
			{"forged tag", state, flip(len(notify) - 1), false},
			{"forged nonce", state, flip(recordHeader), false},
			{"forged sequence number", state, flip(10), false},
			{"cut off", state, cut, false},
			{"plaintext", state, plain, false},
			{"twice in a datagram", state, append(bytes.Clone(notify), notify...), true},
			{"behind a forged one", state, append(flip(recordHeader), notify...), true},
			{"application data", state, append([]byte{typeApplicationData}, notify[1:]...), false},
			{"empty", state, nil, false},
			{"too long", state, append(bytes.Clone(notify), make([]byte, maxAlert)...), false},
		} {
			t.Run(fmt.Sprintf("role %d, %s", role, tc.name), func(t *testing.T) {
				if got, err := ParseAlert(tc.state, tc.datagram); got != tc.want || err != nil {
					t.Errorf("%v, %v, want %v", got, err, tc.want)
				}
			})
		}
		if _, err := ParseAlert([]byte("no state"), notify); !errors.Is(err, errs.ErrInvalid) {
			t.Errorf("broken state: %v", err)
		}
	}
}

// A record that was received before the state was exported is a replay.
func TestParseAlertRefusesReplays(t *testing.T) {
	p := newPool(t, Config{})
	l := newLink(t, p, setup{role: Server})
	r := l.mustFinish()
	defer l.close()
	for i, b := range l.theirs() {
		forged := bytes.Clone(b)
		if holds(b, typeHandshake, 1) { // the peer's Finished, called an alert
			for at := 0; at < len(forged); {
				rec, rest, _ := nextRecord(forged[at:])
				if rec.epoch == 1 {
					forged[at] = typeAlert
				}
				at = len(forged) - len(rest)
			}
		}
		if closed, err := ParseAlert(r.State, forged); closed || err != nil {
			t.Errorf("datagram %d: %v, %v", i, closed, err)
		}
	}
}

func TestParseAlertFromManyGoroutines(t *testing.T) {
	state, notify := closedLink(t, Server)
	forged := bytes.Clone(notify)
	forged[len(forged)-1] ^= 1
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				if closed, err := ParseAlert(state, notify); !closed || err != nil {
					t.Errorf("real: %v, %v", closed, err)
				}
				if closed, err := ParseAlert(state, forged); closed || err != nil {
					t.Errorf("forged: %v, %v", closed, err)
				}
			}
		})
	}
	wg.Wait()
}
