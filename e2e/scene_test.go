package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
)

const (
	hearTimeout = 30 * time.Second
	audibleDB   = -50.0 // a tone that is there
	clearDB     = 15.0  // louder than every tone that is not
)

// Clients of the bundles.
const (
	newest  = "newest"
	shipped = "shipped"
)

// scene is a channel on a server with users in a browser.
type scene struct {
	server  *server
	browser *browser
	base    string // address of the test pages
	client  string
	channel string
	users   []*user
}

func newScene(t *testing.T, s *server, b *browser, client string) *scene {
	t.Helper()
	return &scene{
		server: s, browser: b, client: client, base: lab.pages(t, s.settings.space),
		channel: fmt.Sprintf("channel-%d", lab.next()),
	}
}

// user is a user in a page of its own, with a tone of its own.
type user struct {
	*tab
	scene *scene
	name  string
	tone  int
}

// join opens a page and joins the channel.
func (s *scene) join(t *testing.T, name string, options map[string]any) *user {
	t.Helper()
	u := &user{scene: s, name: name, tone: 500 + 450*len(s.users)}
	u.tab = s.browser.open(t, s.base+"/"+s.client+".html")
	s.users = append(s.users, u)
	all := map[string]any{"url": s.server.socketURL(), "name": name, "channel": s.channel, "tone": u.tone}
	maps.Copy(all, options)
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	u.mustEval(t, "await e2e.join("+string(text)+")", nil)
	return u
}

// userState is the state of a test client.
type userState struct {
	InRoom    []string
	Owners    map[string]string
	Producer  string
	Heard     []string
	Errors    []string
	Failures  []string
	Events    []string
	Connected string
	Kicked    string
	Sockets   int
	Open      bool
	Sent      map[string]int
	Starts    int
	Ignored   int
}

func (u *user) state(t *testing.T) userState {
	t.Helper()
	var state userState
	u.mustEval(t, "return e2e.state()", &state)
	return state
}

// inbound is what a user receives from one speaker.
type inbound struct {
	Packets, Lost, Concealed, SilentConcealed, Concealments, Samples, SSRC float64
	AudioLevel, Energy                                                     float64
}

func (u *user) inbound(t *testing.T) map[string]inbound {
	t.Helper()
	var all map[string]inbound
	u.mustEval(t, "return await e2e.inbound()", &all)
	return all
}

// transportFacts is what a browser knows of a transport.
type transportFacts struct {
	ID, State, SRTPCipher                   string
	Protocol, RemoteProtocol, RemoteAddress string
	RTTMs, ReportedRTTMs                    float64
	ReportedLost                            float64
}

func (u *user) transports(t *testing.T) map[string]transportFacts {
	t.Helper()
	var all map[string]transportFacts
	u.mustEval(t, "return await e2e.transports()", &all)
	return all
}

// call runs a method of the test client.
func (u *user) call(t *testing.T, method string) {
	t.Helper()
	u.mustEval(t, fmt.Sprintf("return await e2e.call(%q)", method), nil)
}

// hearsExactly waits until the user hears these users and nobody else: their
// tones by ear, packets and level by the browser's statistics.
func (u *user) hearsExactly(t *testing.T, others ...*user) {
	t.Helper()
	before := map[string]inbound{}
	eventually(t, hearTimeout, func() error {
		if err := u.tonesExactly(t, others); err != nil {
			return err
		}
		now := u.inbound(t)
		if len(before) == 0 {
			before = now
		}
		for _, other := range others {
			got := now[other.name]
			if got.Packets <= before[other.name].Packets || got.AudioLevel <= 0 {
				return fmt.Errorf("%s from %s: %.0f packets, then %.0f, level %.3f", u.name, other.name, before[other.name].Packets, got.Packets, got.AudioLevel)
			}
		}
		return nil
	})
}

func (u *user) tonesExactly(t *testing.T, others []*user) error {
	t.Helper()
	tones := make([]string, len(u.scene.users))
	for i, each := range u.scene.users {
		tones[i] = fmt.Sprint(each.tone)
	}
	var heard map[string][]float64
	u.mustEval(t, "return e2e.heard(["+strings.Join(tones, ",")+"])", &heard)
	var names, want []string
	for _, other := range others {
		want = append(want, other.name)
		levels := heard[other.name]
		for i, each := range u.scene.users {
			switch {
			case levels == nil:
				return fmt.Errorf("%s has no audio of %s, only of %v", u.name, other.name, slices.Sorted(maps.Keys(heard)))
			case each == other && levels[i] < audibleDB:
				return fmt.Errorf("%s hears %s at %.0f dB only", u.name, other.name, levels[i])
			case each != other && levels[i] > levels[slices.Index(u.scene.users, other)]-clearDB:
				return fmt.Errorf("%s hears %s in the audio of %s: %v", u.name, each.name, other.name, levels)
			}
		}
	}
	names = slices.Sorted(maps.Keys(heard))
	slices.Sort(want)
	if !slices.Equal(names, want) {
		return fmt.Errorf("%s hears %v, want %v", u.name, names, want)
	}
	return nil
}

// sees waits until the user is told that exactly these users are in the channel.
func (u *user) sees(t *testing.T, others ...*user) {
	t.Helper()
	want := make([]string, len(others))
	for i, other := range others {
		want[i] = other.name
	}
	slices.Sort(want)
	eventually(t, grace+hearTimeout, func() error {
		got := u.state(t).InRoom
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("%s sees %v, want %v", u.name, got, want)
		}
		return nil
	})
}

// untroubled fails the test when the user met an error.
func (u *user) untroubled(t *testing.T) {
	t.Helper()
	state := u.state(t)
	if len(state.Errors)+len(state.Failures) > 0 {
		t.Errorf("%s met errors: %v %v", u.name, state.Errors, state.Failures)
	}
}

// watch begins to measure how long the tone of another user is away.
func (u *user) watch(t *testing.T, other *user) {
	t.Helper()
	u.mustEval(t, fmt.Sprintf("e2e.watch(%q, %d)", other.name, other.tone), nil)
}

// gap ends the measurement and returns the longest time without the tone.
func (u *user) gap(t *testing.T) time.Duration {
	t.Helper()
	var got struct {
		LongestMs float64
		Looks     int
	}
	u.mustEval(t, "return e2e.gap()", &got)
	if got.Looks == 0 {
		t.Errorf("%s has not looked for the tone", u.name)
	}
	return time.Duration(got.LongestMs * float64(time.Millisecond))
}

// logHops tells what the server knows of all hops, for a loss that a browser saw: it is
// the server's only where the speaker's hop to the server lost nothing.
func (s *scene) logHops(t *testing.T) {
	t.Helper()
	got, err := s.server.admin(t).GetChannel(t.Context(), &adminv1.GetChannelRequest{ChannelId: s.channel})
	if err != nil {
		t.Error(err)
		return
	}
	for _, u := range got.GetUsers() {
		t.Logf("%s to the server: %v", u.GetUserId(), u.GetUplink())
	}
	for _, h := range got.GetHearings() {
		t.Logf("%s to %s: %v", h.GetSpeakerUserId(), h.GetListenerUserId(), h.GetLink())
	}
}
