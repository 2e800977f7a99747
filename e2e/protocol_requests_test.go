package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// TestRequests covers the rows of the signaling socket's requests, each over a
// real socket and a real worker.
func TestRequests(t *testing.T) {
	s := startServer(t, settings{})
	for _, row := range []struct {
		name string
		run  func(*testing.T, *server, string)
	}{
		{"ping", testPing},
		{"request ids of all kinds", testRequestIDs},
		{"capabilities", testCapabilities},
		{"create-transport", testCreateTransport},
		{"connect-transport", testConnectTransport},
		{"produce", testProduce},
		{"a second produce replaces the first", testSecondProduce},
		{"consume", testConsume},
		{"pause and resume", testPauseResume},
		{"close-producer and close-transport", testClose},
		{"messages before the end of validation", testEarlyMessages},
	} {
		t.Run(row.name, func(t *testing.T) { row.run(t, s, "requests "+row.name) })
	}
}

func testPing(t *testing.T, s *server, channel string) {
	t.Helper()
	c := s.enter(t, "u", channel)
	c.sendText(t, `{"type":"ping"}`)
	got := c.expect(t, "pong")
	if at, ok := got.Timestamp.(float64); !ok || at < 1.6e12 || !strings.Contains(got.raw, `"requestId":null`) {
		t.Errorf("got %s", got.raw)
	}
	c.sendText(t, `{"type":"pong"}`)
	if got := c.request(t, "ping", nil); got.Type != "pong" {
		t.Errorf("got %s", got.raw)
	}
}

func testRequestIDs(t *testing.T, s *server, channel string) {
	t.Helper()
	c := s.enter(t, "u", channel)
	for _, id := range []string{`"text"`, `17`, `{"a":[1,"b"]}`, `[1]`, `true`} {
		c.sendText(t, `{"type":"get-rtp-capabilities","requestId":`+id+`,"strange":"field"}`)
		if got := c.expect(t, "rtp-capabilities"); string(got.RequestID) != id {
			t.Errorf("the id %s came back as %s", id, got.RequestID)
		}
		c.sendText(t, `{"type":"no-such-thing","requestId":`+id+`}`)
		if got := c.expect(t, "error"); string(got.RequestID) != id {
			t.Errorf("the id %s came back as %s", id, got.raw)
		}
	}
}

func testCapabilities(t *testing.T, s *server, channel string) {
	t.Helper()
	c := s.enter(t, "u", channel)
	data := c.must(t, "get-rtp-capabilities", nil, "rtp-capabilities").Data
	var got struct {
		Codecs []struct {
			Kind, MimeType       string
			PreferredPayloadType int
			ClockRate, Channels  int
			RtcpFeedback         []feedback
		}
		HeaderExtensions []struct{ URI, Direction string }
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	opus := got.Codecs[0]
	if len(got.Codecs) != 1 || opus.Kind != "audio" || opus.MimeType != "audio/opus" || opus.PreferredPayloadType != 100 || opus.ClockRate != 48000 || opus.Channels != 2 {
		t.Errorf("codecs %+v", got.Codecs)
	}
	for _, want := range []string{"nack", "transport-cc"} {
		if !slices.ContainsFunc(opus.RtcpFeedback, func(f feedback) bool { return f.Type == want }) {
			t.Errorf("feedback %v lacks %s", opus.RtcpFeedback, want)
		}
	}
	if !strings.Contains(string(data), midExtension) {
		t.Errorf("extensions %+v", got.HeaderExtensions)
	}
	for name, form := range map[string]any{"bare": data, "wrapped": map[string]any{"rtpCapabilities": data}} {
		if ack := c.must(t, "client-rtp-capabilities", form, "rtp-capabilities-ack"); strings.Contains(string(ack.Data), "codecs") {
			t.Errorf("%s: the client would reload its device: %s", name, ack.raw)
		}
	}
}

func testCreateTransport(t *testing.T, s *server, channel string) {
	t.Helper()
	c := s.enter(t, "u", channel)
	first := c.createTransport(t, "send")
	var second transportParams
	c.must(t, "create-transport", nil, "transport-params").decode(t, &second)
	if first.ID == "" || first.ID == second.ID {
		t.Errorf("ids %q and %q", first.ID, second.ID)
	}
	ice := first.IceParameters
	if !ice.IceLite || len(ice.UsernameFragment) < 4 || len(ice.Password) < 22 || ice == second.IceParameters {
		t.Errorf("ICE parameters %+v and %+v", ice, second.IceParameters)
	}
	protocols := map[string]int{}
	for _, candidate := range first.IceCandidates {
		protocols[candidate.Protocol]++
		if candidate.Type != "host" || candidate.Port == 0 || candidate.IP != candidate.Address || strings.Contains(candidate.Address, ":") {
			t.Errorf("candidate %+v for a client over IPv4", candidate)
		}
		if (candidate.TCPType == "passive") != (candidate.Protocol == "tcp") {
			t.Errorf("TCP type of %+v", candidate)
		}
	}
	if protocols["udp"] == 0 || protocols["tcp"] == 0 {
		t.Errorf("candidates %v", first.IceCandidates)
	}
	if !slices.ContainsFunc(first.DtlsParameters.Fingerprints, func(f fingerprint) bool { return f.Algorithm == "sha-256" && len(f.Value) == 95 }) {
		t.Errorf("DTLS parameters %+v", first.DtlsParameters)
	}
	if !slices.Contains([]string{"auto", "server", "client"}, first.DtlsParameters.Role) {
		t.Errorf("DTLS role %q", first.DtlsParameters.Role)
	}
}

func testConnectTransport(t *testing.T, s *server, channel string) {
	t.Helper()
	c := s.enter(t, "u", channel)
	first, _, _ := c.createTransport(t, "send"), c.createTransport(t, "recv"), c.createTransport(t, "recv")
	var got struct{ ID, TransportID string }
	c.must(t, "connect-transport", map[string]any{"dtlsParameters": someFingerprint(), "transportId": first.ID}, "transport-connected").decode(t, &got)
	if got.ID != first.ID || got.TransportID != first.ID {
		t.Errorf("got %+v, want %s twice", got, first.ID)
	}
	if all := c.must(t, "connect-transport", map[string]any{"dtlsParameters": someFingerprint()}, "transport-connected"); len(all.Data) > 0 && string(all.Data) != "null" {
		t.Errorf("without an id the answer has data: %s", all.raw)
	}
}

func testProduce(t *testing.T, s *server, channel string) {
	t.Helper()
	a, b := s.enter(t, "ann", channel), s.enter(t, "bob", channel)
	a.expectThat(t, "bob's arrival", func(m message) bool { return m.Type == "currentlyInChannel" && len(m.InRoom) == 2 })
	a.createTransport(t, "send")
	before := len(a.all())
	a.sendText(t, fmt.Sprintf(`{"type":"produce","requestId":"p","data":{"kind":"audio","rtpParameters":%s}}`, marshal(t, opusParameters("0", 7))))
	produced := a.expect(t, "produced")
	var order []string
	for _, m := range a.all()[before:] {
		order = append(order, m.Type)
	}
	if order[0] != "producer-id" || order[len(order)-1] != "produced" || !slices.Contains(order, "available-producers") || !slices.Contains(order, "currentlyInChannel") || slices.Contains(order, "new-producer") {
		t.Errorf("the speaker got %v", order)
	}
	var got struct {
		ID, UserID, ChannelID, Kind string
		RTPParameters               rtpParameters
	}
	produced.decode(t, &got)
	if got.ID == "" || got.UserID != "ann" || got.ChannelID != channel || got.Kind != "audio" || len(got.RTPParameters.Codecs) != 1 || string(produced.RequestID) != `"p"` {
		t.Errorf("produced is %s", produced.raw)
	}
	var available struct {
		Producers       []string
		ProducerUserMap map[string]string
	}
	b.expect(t, "available-producers").decode(t, &available)
	if !slices.Equal(available.Producers, []string{got.ID}) || available.ProducerUserMap[got.ID] != "ann" {
		t.Errorf("available-producers: %+v", available)
	}
	var fresh struct{ ProducerID, UserID string }
	messageOf(t, b, "new-producer").decode(t, &fresh)
	if fresh.ProducerID != got.ID || fresh.UserID != "ann" {
		t.Errorf("new-producer: %+v", fresh)
	}
	eventually(t, answerTimeout, func() error {
		last := lastOf(b, "currentlyInChannel")
		if !slices.Equal(last.Producers, []string{got.ID}) || last.ProducerUserMap[got.ID] != "ann" {
			return fmt.Errorf("bob was told %s", last.raw)
		}
		return nil
	})
}

func testSecondProduce(t *testing.T, s *server, channel string) {
	t.Helper()
	a, b := s.enter(t, "ann", channel), s.enter(t, "bob", channel)
	send := a.createTransport(t, "send")
	first := a.produce(t, send.ID, "0", 1)
	second := a.produce(t, send.ID, "1", 2)
	var closed struct{ ProducerID, UserID string }
	b.expect(t, "producer-closed").decode(t, &closed)
	if closed.ProducerID != first || closed.UserID != "ann" {
		t.Errorf("closed %+v, want %s", closed, first)
	}
	t.Run("also from another socket of the user", func(t *testing.T) {
		other := s.enter(t, "ann", channel)
		third := other.produce(t, other.createTransport(t, "send").ID, "0", 3)
		b.expect(t, "producer-closed").decode(t, &closed)
		if closed.ProducerID != second {
			t.Errorf("closed %+v, want %s", closed, second)
		}
		eventually(t, answerTimeout, func() error {
			if last := lastOf(b, "currentlyInChannel"); !slices.Equal(last.Producers, []string{third}) {
				return fmt.Errorf("bob was told %s", last.raw)
			}
			return nil
		})
	})
}

func testConsume(t *testing.T, s *server, channel string) {
	t.Helper()
	a, b := s.enter(t, "ann", channel), s.enter(t, "bob", channel)
	caps := b.capabilities(t)
	a.capabilities(t)
	producer := a.produce(t, a.createTransport(t, "send").ID, "0", 1)
	b.createTransport(t, "send")
	recv := b.createTransport(t, "recv")
	var got consumerParams
	b.must(t, "consume", map[string]any{"producerId": producer, "transportId": recv.ID, "rtpCapabilities": caps}, "consumer-params").decode(t, &got)
	params := got.RTPParameters
	if got.ID == "" || got.ProducerID != producer || got.Kind != "audio" || got.UserID != "ann" {
		t.Errorf("consumer %+v", got)
	}
	if params.Mid == "" || params.Codecs[0].PayloadType != 100 || params.Encodings[0].SSRC == 0 || params.Rtcp["cname"] == "" {
		t.Errorf("parameters %+v", params)
	}
	t.Run("without a producer's id", func(t *testing.T) {
		c := s.enter(t, "cid", channel)
		c.capabilities(t)
		c.createTransport(t, "recv")
		var got consumerParams
		c.must(t, "consume", map[string]any{}, "consumer-params").decode(t, &got)
		if got.ProducerID != producer {
			t.Errorf("consumes %s, want %s", got.ProducerID, producer)
		}
		if answer := c.request(t, "consume", map[string]any{}); answer.text() != "No producer available" {
			t.Errorf("all are consumed: %s", answer.raw)
		}
	})
	t.Run("the newest connected transport is the default", func(t *testing.T) {
		d := s.enter(t, "dan", channel)
		d.capabilities(t)
		first := d.createTransport(t, "recv")
		d.createTransport(t, "recv")
		d.must(t, "connect-transport", map[string]any{"transportId": first.ID, "dtlsParameters": someFingerprint()}, "transport-connected")
		d.must(t, "consume", map[string]any{"producerId": producer}, "consumer-params")
		again := d.request(t, "consume", map[string]any{"producerId": producer, "transportId": first.ID})
		if again.text() != "Already consuming this producer" {
			t.Errorf("the first transport does not have the consumer: %s", again.raw)
		}
	})
	t.Run("an echo of oneself", func(t *testing.T) {
		a.must(t, "consume", map[string]any{"producerId": producer, "transportId": a.createTransport(t, "recv").ID}, "consumer-params")
	})
}

func testPauseResume(t *testing.T, s *server, channel string) {
	t.Helper()
	a, b := s.enter(t, "ann", channel), s.enter(t, "bob", channel)
	send, recv := a.createTransport(t, "send"), b.createTransport(t, "recv")
	producer := a.produce(t, send.ID, "0", 1)
	b.capabilities(t)
	var consumer consumerParams
	b.must(t, "consume", map[string]any{"producerId": producer, "transportId": recv.ID}, "consumer-params").decode(t, &consumer)
	for _, row := range []struct {
		who     *socket
		key, id string
	}{{a, "transportId", send.ID}, {a, "producerId", producer}, {b, "consumerId", consumer.ID}} {
		for _, verb := range []struct{ request, answer string }{{"pause", "paused"}, {"resume", "resumed"}} {
			var got map[string]string
			row.who.must(t, verb.request, map[string]any{row.key: row.id}, verb.answer).decode(t, &got)
			if got[row.key] != row.id {
				t.Errorf("%s by %s: %v", verb.request, row.key, got)
			}
		}
	}
}

func testClose(t *testing.T, s *server, channel string) {
	t.Helper()
	a, b := s.enter(t, "ann", channel), s.enter(t, "bob", channel)
	send := a.createTransport(t, "send")
	producer := a.produce(t, send.ID, "0", 1)
	a.sendText(t, fmt.Sprintf(`{"type":"close-producer","data":{"producerId":%q}}`, producer))
	for _, c := range []*socket{a, b} {
		var got struct{ ProducerID, UserID string }
		c.expect(t, "producer-closed").decode(t, &got)
		if got.ProducerID != producer || got.UserID != "ann" {
			t.Errorf("producer-closed %+v", got)
		}
	}
	second := a.produce(t, send.ID, "1", 2)
	var got struct{ ID string }
	a.must(t, "close-transport", map[string]any{"transportId": send.ID}, "transport-closed").decode(t, &got)
	if got.ID != send.ID {
		t.Errorf("transport-closed %+v", got)
	}
	var closed struct{ ProducerID string }
	b.expect(t, "producer-closed").decode(t, &closed)
	if closed.ProducerID != second {
		t.Errorf("the producer of a closed transport: %+v", closed)
	}
}

// testEarlyMessages sends requests at once, in text and in binary frames; they
// are answered in order after the greeting.
func testEarlyMessages(t *testing.T, s *server, channel string) {
	t.Helper()
	c := s.dial(t, "u", channel)
	for i, kind := range []int{websocket.TextMessage, websocket.BinaryMessage, websocket.TextMessage} {
		text := fmt.Sprintf(`{"type":"create-transport","requestId":%d}`, i)
		if err := c.conn.WriteMessage(kind, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		if got := c.expect(t, "transport-params"); string(got.RequestID) != fmt.Sprint(i) {
			t.Errorf("answer %d is for request %s", i, got.RequestID)
		}
	}
	if first := c.all()[0].Type; first != "currentlyInChannel" {
		t.Errorf("the first message is %s", first)
	}
}

func marshal(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// messageOf waits for a message of a type, also among those already passed.
func messageOf(t *testing.T, c *socket, kind string) message {
	t.Helper()
	eventually(t, answerTimeout, func() error {
		if lastOf(c, kind).Type == "" {
			return fmt.Errorf("no %s: %w", kind, errMissing)
		}
		return nil
	})
	return lastOf(c, kind)
}

func lastOf(c *socket, kind string) message {
	var last message
	for _, m := range c.all() {
		if m.Type == kind {
			last = m
		}
	}
	return last
}
