package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dspeak/sfu/internal/ident"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
)

// data is the app data of an object on the first worker.
func (l *lab) data(id string, into any) {
	l.t.Helper()
	w := l.workers[0]
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := json.Unmarshal(w.appData[id], into); err != nil {
		l.t.Fatalf("app data %q of %s: %v", w.appData[id], id, err)
	}
}

// mimeTypes are those of the codecs in a transport's app data.
func (l *lab) mimeTypes(transport string) string {
	l.t.Helper()
	var data transportData
	l.data(transport, &data)
	var caps workerv1.RtpCapabilities
	if err := proto.Unmarshal(data.Capabilities, &caps); err != nil {
		l.t.Fatal(err)
	}
	var types []string
	for _, c := range caps.GetCodecs() {
		types = append(types, c.GetMimeType())
	}
	return strings.Join(types, " ")
}

func TestAppData(t *testing.T) {
	l := newLab(t, 1)
	before := time.Now()
	a := l.join("ann", "c")
	first := a.transport()
	r := l.backend.registry
	r.mu.Lock()
	router := string(r.channels["c"].router.id)
	r.mu.Unlock()
	var channel routerData
	if l.data(router, &channel); channel.ChannelID != "c" || channel.Created < before.UnixNano() || channel.Created > time.Now().UnixNano() {
		t.Errorf("the router is %+v", channel)
	}
	var owner transportData
	if l.data(first, &owner); owner.UserID != "ann" || owner.Joined < channel.Created || owner.Created < owner.Joined || owner.Capabilities != nil {
		t.Errorf("the transport is %+v", owner)
	}
	a.must("client-rtp-capabilities", caps, "rtp-capabilities-ack")
	second := a.transport()
	for _, id := range []string{first, second} {
		if got := l.mimeTypes(id); got != "audio/opus" {
			t.Errorf("the client of %s can %q", id, got)
		}
	}
	again := l.join("ann", "c")
	again.must("client-rtp-capabilities", strings.ReplaceAll(caps, "opus", "PCMU"), "rtp-capabilities-ack")
	for _, id := range []string{first, second} {
		if got := l.mimeTypes(id); got != "audio/PCMU" {
			t.Errorf("the client of %s can %q", id, got)
		}
	}
}

// TestCapabilitiesComeDuringCreateTransport: the transport learns of them all the same.
func TestCapabilitiesComeDuringCreateTransport(t *testing.T) {
	l := newLab(t, 1)
	a, other := l.join("ann", "c"), l.join("ann", "c")
	reached, release := make(chan struct{}), make(chan struct{})
	l.workers[0].hooks(nil, func(_ context.Context, call string) error {
		if call == "CreateTransport" {
			close(reached)
			<-release
		}
		return nil
	})
	a.say("create-transport", "")
	<-reached
	other.must("client-rtp-capabilities", caps, "rtp-capabilities-ack")
	close(release)
	m := a.next()
	for ; m.Type != "transport-params"; m = a.next() {
		continue
	}
	a.drain() // the socket's next request comes after all of this one
	if got := l.mimeTypes(m.field("id")); got != "audio/opus" {
		t.Errorf("the client can %q", got)
	}
}

// TestAppDataIsBounded: what does not fit is left out, and nobody is refused.
func TestAppDataIsBounded(t *testing.T) {
	u := &user{id: "ann"}
	many := &workerv1.RtpCapabilities{}
	for i := range 2000 {
		many.Codecs = append(many.Codecs, &workerv1.RtpCodecCapability{Kind: "audio", MimeType: fmt.Sprint("audio/x-", i)})
	}
	b, err := u.appData(time.Now(), many)
	var data transportData
	if err != nil || json.Unmarshal(b, &data) != nil || data.Capabilities != nil || data.UserID != "ann" {
		t.Errorf("large capabilities: %q, %v", b, err)
	}
	huge := ident.UserID(strings.Repeat("\x01", 4000)) // six bytes each in JSON
	if _, err := (&user{id: huge}).appData(time.Now(), nil); err == nil {
		t.Error("a huge name fits")
	}
}
