package supervisor

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/dspeak/sfu/internal/config"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/signaling/wire"
)

// TestJoinBeforeTheNameIsKnown: health says so, requests are refused, and refused clients
// are sent back to dial again once the name is known.
func TestJoinBeforeTheNameIsKnown(t *testing.T) {
	r := &resolver{}
	l := newLab(t, 1, func(l *lab) {
		l.backend.addresses = newAddresses(config.Config{Environment: config.Production, Media: config.Media{IPv4: "voice.example.org", IPv4Port: 12825}},
			map[workerv1.AddressFamily]bool{v4: true}, slog.New(slog.DiscardHandler))
		l.backend.addresses.lookup = r.lookup
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.backend.awaitAddresses(t.Context())
	}()
	health := func() (int, string) {
		answer := httptest.NewRecorder()
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/health", nil)
		newHTTPServer(l.backend, l.sockets, config.Config{Environment: config.Production}, slog.New(slog.DiscardHandler)).Handler.ServeHTTP(answer, request)
		return answer.Code, answer.Body.String()
	}
	if code, text := health(); code != http.StatusServiceUnavailable || !strings.Contains(text, "voice.example.org") {
		t.Errorf("health is %d %q", code, text)
	}
	ann, bob := l.join("ann", "c"), l.join("bob", "c") // bob asks for nothing meanwhile
	if refusal := ann.must("create-transport", "", "error"); refusal.text() != "Router not ready" {
		t.Errorf("refused with %s", refusal.raw)
	}
	r.set(map[string][]netip.Addr{"voice.example.org": {four}})
	l.backend.addresses.refresh(t.Context())
	if _, code := ann.ended(); code != wire.CloseTryLater {
		t.Errorf("the refused client's socket ends with %d", code)
	}
	<-ended
	if code, _ := health(); code != http.StatusOK {
		t.Errorf("health is %d", code)
	}
	bob.transport()
	again, _ := l.enter("ann", "c")
	again.transport()
	if !l.main.heard("voice.example.org") {
		t.Error("the main server was not told")
	}
}
