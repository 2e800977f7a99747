package e2e

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
)

// TestLateJoiner lets a user join a running call again and again, and wants each speaker
// heard each time: however the page makes its media sections, and whoever speaks first.
// Firefox assigns a stream to the only section that it has (see worker/rtc/introduce.go).
func TestLateJoiner(t *testing.T) {
	for _, row := range []struct{ browser, client string }{{firefox, shipped}, {firefox, newest}, {chromium, shipped}} {
		t.Run(row.browser+" "+row.client, func(t *testing.T) {
			sc := newScene(t, startServer(t, callSettings(t, row.browser, nil)), lab.shared(t, row.browser), row.client)
			ann, bob := sc.join(t, "ann", nil), sc.join(t, "bob", nil)
			cid := sc.join(t, "cid", map[string]any{"listenOnly": true})
			cid.hearsExactly(t, ann, bob)
			for run := range runs(t) {
				p := paces[run%len(paces)]
				silent := map[string]*user{"ann": ann, "bob": bob}[p.silent]
				if silent != nil {
					silent.call(t, "mute")
				}
				cid.paced(t, p)
				cid.call(t, "rejoin")
				if silent != nil {
					other := ann
					if silent == ann {
						other = bob
					}
					eventually(t, hearTimeout, func() error { return cid.present(t, other) })
					silent.call(t, "unmute")
				}
				if !t.Run(fmt.Sprintf("%d %s", run, p.name), func(t *testing.T) { cid.hearsExactly(t, ann, bob) }) {
					return
				}
			}
			cid.untroubled(t)
		})
	}
}

// TestUnmuteHeard lets two speakers unmute by fresh producers, together, again and again,
// and wants both heard each time.
func TestUnmuteHeard(t *testing.T) {
	for _, kind := range []string{firefox, chromium} {
		t.Run(kind, func(t *testing.T) {
			sc := newScene(t, startServer(t, callSettings(t, kind, nil)), lab.shared(t, kind), shipped)
			ann, bob := sc.join(t, "ann", nil), sc.join(t, "bob", nil)
			cid := sc.join(t, "cid", map[string]any{"listenOnly": true})
			cid.hearsExactly(t, ann, bob)
			var missed []float64
			for run := range runs(t) {
				p := paces[run%len(paces)]
				cid.paced(t, p)
				before := cid.inbound(t)
				for _, u := range []*user{ann, bob} {
					u.mustEval(t, `e2e.unmuting = e2e.call("reproduce")`, nil)
				}
				for _, u := range []*user{ann, bob} {
					u.mustEval(t, `await e2e.unmuting`, nil)
				}
				if !t.Run(fmt.Sprintf("%d %s", run, p.name), func(t *testing.T) {
					eventually(t, hearTimeout, func() error { return cid.newStreams(t, before, ann, bob) })
					cid.hearsExactly(t, ann, bob)
				}) {
					return
				}
				if p.name == "quick" {
					missed = append(missed, cid.missed(t, ann), cid.missed(t, bob))
				}
			}
			slices.Sort(missed)
			t.Logf("the first word misses %.0f to %.0f packets, median %.0f", missed[0], missed[len(missed)-1], missed[len(missed)/2])
			cid.untroubled(t)
		})
	}
}

// TestShippedClientInFirefox replays the app's client: it produces twice while it joins, so
// that the first consumer of a late joiner may have ended before it is connected.
func TestShippedClientInFirefox(t *testing.T) {
	sc := newScene(t, startServer(t, callSettings(t, firefox, nil)), lab.shared(t, firefox), shipped)
	replay := map[string]any{"replay": true}
	ann, bob := sc.join(t, "ann", replay), sc.join(t, "bob", replay)
	ann.hearsReplayed(t, bob)
	for i := range 3 {
		late := sc.join(t, fmt.Sprint("late", i), replay)
		late.hearsReplayed(t, ann)
		late.hearsReplayed(t, bob)
		bob.call(t, "mute")
		eventually(t, hearTimeout, func() error { return toneAway(t, late, bob) })
		bob.call(t, "unmute")
		late.hearsReplayed(t, bob)
		if state := late.state(t); len(state.Failures) > 0 {
			t.Errorf("%s: %v", late.name, state.Failures)
		}
	}
}

// pace is how a page makes media sections of the answers that it gets.
type pace struct {
	name          string
	waits, blocks []int  // ms before each section
	silent        string // who does not speak until the page has both
}

var paces = []pace{
	{name: "quick"},
	{name: "the second section late, the first silent", waits: []int{0, 100}, silent: "ann"},
	{name: "the first section late, the second silent", waits: []int{150, 0}, silent: "bob"},
	{name: "a busy page", blocks: []int{0, 500}},
	{name: "the second section very late", waits: []int{0, 700}},
}

func (u *user) paced(t *testing.T, p pace) {
	t.Helper()
	u.mustEval(t, fmt.Sprintf("return e2e.call('setPace', [%s], [%s])", list(p.waits), list(p.blocks)), nil)
}

func list(numbers []int) string {
	var text string
	for _, n := range numbers {
		text += strconv.Itoa(n) + ","
	}
	return text
}

// newStreams wants packets of other streams than before.
func (u *user) newStreams(t *testing.T, before map[string]inbound, speakers ...*user) error {
	t.Helper()
	now := u.inbound(t)
	for _, speaker := range speakers {
		if got := now[speaker.name]; got.Packets == 0 || got.SSRC == before[speaker.name].SSRC {
			return fmt.Errorf("%s has no packets of the new stream of %s", u.name, speaker.name)
		}
	}
	return nil
}

// missed is how many packets of a speaker's present producer the user did not get.
func (u *user) missed(t *testing.T, speaker *user) float64 {
	t.Helper()
	var sent float64
	speaker.mustEval(t, `return await e2e.call("sent")`, &sent)
	return sent - u.inbound(t)[speaker.name].Packets
}

// runs is how often a test of chance repeats what it does: once at each pace, or
// DSPEAK_E2E_RUNS times.
func runs(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(firstOf(os.Getenv("DSPEAK_E2E_RUNS"), "0"))
	if err != nil {
		t.Fatal(err)
	}
	return max(n, len(paces))
}
