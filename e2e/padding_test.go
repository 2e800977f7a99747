package e2e

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

const (
	listenPackets = 250 // of one speaker, in one comparison: 5 s
	// concealRoom is how much larger the share of concealed samples may be than in the
	// unpadded call beside; a decoder that minded padding would conceal everything.
	concealRoom = 0.03
	// powerRoom is how much the received powers may differ, in decibels.
	powerRoom = 1.0
)

// TestPaddedCall: padded packets play in browsers like those of an unpadded call that
// runs beside.
func TestPaddedCall(t *testing.T) {
	for _, row := range clients {
		if row.client != newest {
			continue // what receives is the browser
		}
		t.Run(row.name, func(t *testing.T) {
			browser := lab.shared(t, row.browser)
			plain := newPaddingCall(t, browser, row.browser, "off")
			padded := newPaddingCall(t, browser, row.browser, "always")
			comparePlayback(t, plain, padded)
			for _, c := range []*paddingCall{plain, padded} {
				c.a.call(t, "mute")
				eventually(t, hearTimeout, c.b.nothingOf(t, c.a))
				c.a.call(t, "unmute")
				c.b.hearsExactly(t, c.a)
				c.a.hearsExactly(t, c.b)
			}
			for _, c := range []*paddingCall{plain, padded} {
				for listener, speaker := range map[*user]*user{c.a: c.b, c.b: c.a} {
					listener.untroubled(t)
					if got := listener.inbound(t)[speaker.name]; got.Lost != 0 {
						t.Errorf("%s misses %.0f packets of %s beside %.0f, padding %s", listener.name, got.Lost, speaker.name, got.Packets, c.padding)
					}
				}
			}
			// A worker's counters are asked for about once a second.
			eventually(t, hearTimeout, func() error {
				sent, added := padded.counted(t, "packets_sent"), padded.counted(t, "padding_bytes")
				if sent < 2*listenPackets || added < sent {
					return fmt.Errorf("%.0f bytes of padding in %.0f packets", added, sent)
				}
				t.Logf("%.0f bytes of padding in %.0f packets", added, sent)
				return nil
			})
			// A browser's probe, which is nothing but padding, keeps one byte of it.
			if sent, added := plain.counted(t, "packets_sent"), plain.counted(t, "padding_bytes"); added > sent/10 {
				t.Errorf("%.0f bytes of padding in %.0f packets where it is off", added, sent)
			}
		})
	}
}

// paddingCall is a call of two on a server of its own.
type paddingCall struct {
	padding string
	scene   *scene
	a, b    *user
}

func newPaddingCall(t *testing.T, browser *browser, kind, padding string) *paddingCall {
	t.Helper()
	set := callSettings(t, kind, nil)
	set.workers = 1
	if set.env == nil {
		set.env = map[string]string{}
	}
	set.env["DSPEAK_MEDIA_PADDING"] = padding
	c := &paddingCall{padding: padding, scene: newScene(t, startServer(t, set), browser, newest)}
	c.a = c.scene.join(t, "ann", nil)
	c.b = c.scene.join(t, "bob", nil)
	c.a.hearsExactly(t, c.b)
	c.b.hearsExactly(t, c.a)
	return c
}

// counted is a counter of the call's worker.
func (c *paddingCall) counted(t *testing.T, what string) float64 {
	t.Helper()
	status, body, err := c.scene.server.get(t.Context(), "/metrics")
	if err != nil || status != http.StatusOK {
		t.Fatalf("metrics: %d, %v", status, err)
	}
	_, rest, found := strings.Cut(body, "\ndspeak_worker_"+what+`_total{slot="0"} `)
	line, _, _ := strings.Cut(rest, "\n")
	value, err := strconv.ParseFloat(line, 64)
	if !found || err != nil {
		t.Fatalf("metric %s is %q, %v", what, line, err)
	}
	return value
}

// playback is what a browser did with a stretch of a stream.
type playback struct {
	packets, concealed, power float64 // concealed: share of the samples; power in decibels
}

func (now inbound) since(before inbound) playback {
	samples := now.Samples - before.Samples
	return playback{
		packets:   now.Packets - before.Packets,
		concealed: (now.Concealed - before.Concealed) / samples,
		power:     10 * math.Log10((now.Energy-before.Energy)/(samples/48000)),
	}
}

// comparePlayback waits for a stretch in which both listeners of the padded call heard
// what those of the plain one heard: a busy machine disturbs either at times.
func comparePlayback(t *testing.T, plain, padded *paddingCall) {
	t.Helper()
	listeners := map[string][2]*user{"bob": {plain.a, padded.a}, "ann": {plain.b, padded.b}} // by the speaker
	before := map[*user]inbound{}
	hear := func(u *user, speaker string) (inbound, playback) {
		now := u.inbound(t)[speaker]
		return now, now.since(before[u])
	}
	for speaker, pair := range listeners {
		before[pair[0]], _ = hear(pair[0], speaker)
		before[pair[1]], _ = hear(pair[1], speaker)
	}
	eventually(t, 3*hearTimeout, func() error {
		var fault error
		for speaker, pair := range listeners {
			nowPlain, gotPlain := hear(pair[0], speaker)
			nowPadded, gotPadded := hear(pair[1], speaker)
			switch {
			case min(gotPlain.packets, gotPadded.packets) < listenPackets:
				return fmt.Errorf("of %s: plain %+v, padded %+v", speaker, gotPlain, gotPadded)
			case !(gotPadded.concealed <= gotPlain.concealed+concealRoom), !(math.Abs(gotPadded.power-gotPlain.power) <= powerRoom):
				fault = fmt.Errorf("of %s: plain %+v, padded %+v", speaker, gotPlain, gotPadded)
				before[pair[0]], before[pair[1]] = nowPlain, nowPadded // the next stretch
			default:
				t.Logf("of %s: plain %+v, padded %+v", speaker, gotPlain, gotPadded)
			}
		}
		return fault
	})
}

// nothingOf looks whether packets of a speaker still come.
func (u *user) nothingOf(t *testing.T, speaker *user) func() error {
	t.Helper()
	last := -1.0
	return func() error {
		now := u.inbound(t)[speaker.name].Packets
		same := now == last
		last = now
		if !same {
			return fmt.Errorf("%s still gets packets of %s", u.name, speaker.name)
		}
		return toneAway(t, u, speaker)
	}
}
