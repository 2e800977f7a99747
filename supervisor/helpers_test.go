package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/dspeak/sfu/internal/config"
	"github.com/dspeak/sfu/internal/ident"
	interopwire "github.com/dspeak/sfu/interop/wire"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/signaling"
	"github.com/dspeak/sfu/signaling/wire"
	"github.com/dspeak/sfu/supervisor/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// lab is a backend with real sockets and fake workers.
type lab struct {
	t       *testing.T
	backend *backend
	sockets *signaling.Server
	workers []*fakeWorker
	pool    *fakePool
	main    *mainServer
	url     string
	limits  signaling.Limits

	mu   sync.Mutex
	last context.Context // of the last request; guarded by mu
}

// spy keeps the context of the last request, which ends with its socket.
type spy struct {
	*backend

	lab *lab
}

func (s spy) Handle(ctx context.Context, session *signaling.Session, req wire.Request) error {
	s.lab.mu.Lock()
	s.lab.last = ctx
	s.lab.mu.Unlock()
	return s.backend.Handle(ctx, session, req)
}

func (l *lab) lastRequest() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// mainServer records what the main server is told.
type mainServer struct {
	mu   sync.Mutex
	told []string // as JSON, without times
}

func (m *mainServer) Send(message interopwire.Message) {
	b, err := interopwire.Encode(message)
	if err != nil {
		panic(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(b, &fields); err != nil {
		panic(err)
	}
	delete(fields, "timestamp")
	if b, err = json.Marshal(fields); err != nil {
		panic(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = append(m.told, string(b))
}

// take returns what was told since the last call.
func (m *mainServer) take() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	told := m.told
	m.told = nil
	return told
}

func (m *mainServer) heard(part string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.told, func(s string) bool { return strings.Contains(s, part) })
}

// named is a validator that knows the users' names: "any-of-x" is x.
type named struct{}

func (named) Validate(_ context.Context, credential string, _ ident.ChannelID) (ident.UserID, error) {
	return ident.UserID(credential[strings.LastIndexByte(credential, '-')+1:]), nil
}

// newLab starts a backend on so many workers. edit may change it before the first socket.
func newLab(t *testing.T, workers int, edit ...func(*lab)) *lab {
	t.Helper()
	l := &lab{t: t, main: &mainServer{}}
	for range workers {
		l.workers = append(l.workers, newFakeWorker())
	}
	l.pool = newFakePool(t, l.workers...)
	served := map[workerv1.AddressFamily]bool{workerv1.AddressFamily_ADDRESS_FAMILY_IPV4: true}
	log := slog.New(slog.DiscardHandler)
	l.backend = &backend{
		registry: newRegistry(), crowds: newCrowds(), workers: l.pool, presence: l.main, takeovers: newTakeovers(workers), adoptions: newAdoptions(nil), log: log,
		addresses: newAddresses(config.Config{Environment: config.Production, Media: config.Media{IPv4: "192.0.2.9", IPv4Port: 12825}}, served, log),
		grace:     time.Minute, cooldown: time.Minute,
	}
	l.backend.addresses.refresh(t.Context())
	for _, e := range edit {
		e(l)
	}
	l.serve(nil)
	return l
}

// serve opens the socket server.
func (l *lab) serve(v signaling.Validator) {
	ctx, stop := context.WithCancel(l.t.Context())
	var pacing sync.WaitGroup
	b := l.backend
	pacing.Go(func() { b.paceCrowds(ctx) })
	l.t.Cleanup(func() {
		stop()
		pacing.Wait()
	})
	l.sockets = signaling.NewServer(signaling.Config{
		Backend: spy{l.backend, l}, Validator: v, Limits: l.limits,
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	server := httptest.NewServer(l.sockets)
	l.url = "ws" + strings.TrimPrefix(server.URL, "http") + "/socket"
	sockets := l.sockets
	l.t.Cleanup(func() {
		r := l.backend.registry
		r.mu.Lock()
		r.closed = true
		r.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := sockets.Close(ctx, websocket.CloseGoingAway, "test is over"); err != nil {
			l.t.Error(err)
		}
		server.Close()
		l.backend.background.Wait()
	})
}

// message is any message of the server.
type message struct {
	Type            string
	RequestID       string
	Status          int
	Details         string
	Reason          string
	TransportID     string
	InRoom          []string
	Producers       []string
	ProducerUserMap map[string]string
	Data            json.RawMessage
	raw             string
}

// text is data when it is a string.
func (m message) text() string {
	var s string
	_ = json.Unmarshal(m.Data, &s)
	return s
}

// field is a member of data.
func (m message) field(name string) string {
	var fields map[string]any
	_ = json.Unmarshal(m.Data, &fields)
	s, _ := fields[name].(string)
	return s
}

// socket is one client.
type socket struct {
	t     *testing.T
	conn  *websocket.Conn
	count int
}

// dial opens a socket without waiting for anything.
func (l *lab) dial(user, channel string) (*socket, *http.Response, error) {
	l.t.Helper()
	header := http.Header{"X-Forwarded-For": []string{"192.0.2.44"}}
	conn, resp, err := websocket.DefaultDialer.DialContext(l.t.Context(), l.url+"?"+url.Values{"auth": {user}, "channelId": {channel}}.Encode(), header)
	if err != nil {
		return nil, resp, err
	}
	l.t.Cleanup(func() { _ = conn.Close() })
	return &socket{t: l.t, conn: conn}, resp, nil
}

// enter opens a socket that joins, and takes its first two messages.
func (l *lab) enter(user, channel string) (*socket, []message) {
	l.t.Helper()
	s, _, err := l.dial(user, channel)
	if err != nil {
		l.t.Fatal(err)
	}
	return s, []message{s.next(), s.next()}
}

// join is enter for those who know what they get.
func (l *lab) join(user, channel string) *socket {
	l.t.Helper()
	s, first := l.enter(user, channel)
	if first[0].Type != "currentlyInChannel" || first[1].Type != "connected" {
		l.t.Fatalf("%s is greeted by %s, %s", user, first[0].raw, first[1].raw)
	}
	return s
}

// next is the next message but for the server's pings.
func (s *socket) next() message {
	s.t.Helper()
	for {
		_ = s.conn.SetReadDeadline(time.Now().Add(patience))
		_, b, err := s.conn.ReadMessage()
		if err != nil {
			s.t.Fatalf("no message: %v", err)
		}
		m := message{raw: string(b)}
		if err := json.Unmarshal(b, &m); err != nil {
			s.t.Fatalf("%s: %v", b, err)
		}
		if m.Type != "ping" {
			return m
		}
	}
}

// ended is the close code of the socket, after all messages.
func (s *socket) ended() (messages []message, code int) {
	s.t.Helper()
	for {
		_ = s.conn.SetReadDeadline(time.Now().Add(patience))
		_, b, err := s.conn.ReadMessage()
		if err != nil {
			if e, ok := err.(*websocket.CloseError); ok { //nolint:errorlint // gorilla returns it bare
				return messages, e.Code
			}
			s.t.Fatalf("socket ended by %v", err)
		}
		m := message{raw: string(b)}
		if err := json.Unmarshal(b, &m); err != nil {
			s.t.Fatal(err)
		}
		messages = append(messages, m)
	}
}

// say sends a request and returns its id.
func (s *socket) say(typ, data string) string {
	s.t.Helper()
	s.count++
	id := fmt.Sprintf("%s-%d", typ, s.count)
	if data == "" {
		data = "null"
	}
	if err := s.conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"type":%q,"requestId":%q,"data":%s}`, typ, id, data)); err != nil {
		s.t.Fatal(err)
	}
	return id
}

// ask sends a request and returns the first message with its id.
func (s *socket) ask(typ, data string) message {
	s.t.Helper()
	id := s.say(typ, data)
	for {
		if m := s.next(); m.RequestID == id {
			return m
		}
	}
}

// must is ask for an answer of that type.
func (s *socket) must(typ, data, answer string) message {
	s.t.Helper()
	m := s.ask(typ, data)
	if m.Type != answer {
		s.t.Fatalf("%s %s is answered by %s, want %s", typ, data, m.raw, answer)
	}
	return m
}

// drain returns all messages that the socket was sent before now: a request that
// changes nothing marks the end.
func (s *socket) drain() []message {
	s.t.Helper()
	id := s.say("pause", `{"transportId":"mark"}`)
	var all []message
	for {
		m := s.next()
		if m.RequestID == id {
			return all
		}
		all = append(all, m)
	}
}

func types(all []message) []string {
	var names []string
	for _, m := range all {
		names = append(names, m.Type)
	}
	return names
}

func wantTypes(t *testing.T, who string, got []message, want ...string) {
	t.Helper()
	if !slices.Equal(types(got), want) {
		t.Fatalf("%s is sent %v, want %v", who, types(got), want)
	}
}

const (
	fingerprints = `{"role":"client","fingerprints":[{"algorithm":"sha-256","value":"AA"}]}`
	rtp          = `{"mid":"0","codecs":[{"mimeType":"audio/opus","payloadType":111,"clockRate":48000,"channels":2}],"encodings":[{"ssrc":7}]}`
	caps         = `{"codecs":[{"kind":"audio","mimeType":"audio/opus","clockRate":48000,"channels":2}]}`
)

// transport makes one and returns its id.
func (s *socket) transport() string {
	s.t.Helper()
	return s.must("create-transport", "", "transport-params").field("id")
}

func (s *socket) connect(id string) {
	s.t.Helper()
	s.must("connect-transport", fmt.Sprintf(`{"transportId":%q,"dtlsParameters":%s}`, id, fingerprints), "transport-connected")
}

// produce makes a producer on a transport, "" for the default, and takes all of its answers.
func (s *socket) produce(transport string) string {
	s.t.Helper()
	data := fmt.Sprintf(`{"kind":"audio","rtpParameters":%s}`, rtp)
	if transport != "" {
		data = fmt.Sprintf(`{"kind":"audio","transportId":%q,"rtpParameters":%s}`, transport, rtp)
	}
	id := s.must("produce", data, "producer-id").field("id")
	for s.next().Type != "produced" {
		continue
	}
	return id
}

// consume asks for a producer with capabilities.
func (s *socket) consume(producer string) message {
	s.t.Helper()
	return s.ask("consume", fmt.Sprintf(`{"producerId":%q,"rtpCapabilities":%s}`, producer, caps))
}

// await waits for a condition.
func await(t *testing.T, what string, met func() bool) {
	t.Helper()
	deadline := time.After(patience)
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !met() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// holds waits until a worker holds so many objects.
func (l *lab) holds(slot int, want [4]int) {
	l.t.Helper()
	await(l.t, fmt.Sprintf("worker %d holds %v routers, transports, producers and consumers", slot, want), func() bool {
		return l.workers[slot].held() == want
	})
}

// crash ends a worker with all that it held.
func (l *lab) crash(slot ident.Slot) {
	l.t.Helper()
	var former process.WorkerInfo
	l.pool.change(slot, func(w *process.WorkerInfo) { former, w.State = *w, process.StateExited })
	w := l.workers[slot]
	w.mu.Lock()
	for id := range w.routers {
		w.dropRouter(id)
	}
	w.mu.Unlock()
	l.events(process.Event{Kind: process.EventDown, Slot: slot, Generation: former.Generation, Epoch: former.Epoch, Cause: "signal: killed"})
}

// recover starts the slot's next process, with nothing.
func (l *lab) recover(slot ident.Slot) {
	l.t.Helper()
	var now process.WorkerInfo
	l.pool.change(slot, func(w *process.WorkerInfo) {
		w.Generation++
		w.Epoch++
		w.State = process.StateReady
		now = *w
	})
	w := l.workers[slot]
	w.mu.Lock()
	w.epoch = now.Epoch
	w.mu.Unlock()
	l.events(process.Event{Kind: process.EventReady, Slot: slot, Generation: now.Generation, Epoch: now.Epoch})
}

// events gives the backend news of the pool.
func (l *lab) events(events ...process.Event) {
	feed := make(chan process.Event, len(events))
	for _, e := range events {
		feed <- e
	}
	close(feed)
	l.backend.followWorkers(l.t.Context(), feed)
}
