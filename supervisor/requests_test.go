package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/dspeak/sfu/internal/errs"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
)

func TestCapabilities(t *testing.T) {
	l := newLab(t, 1)
	a := l.join("ann", "c")
	got := a.must("get-rtp-capabilities", "", "rtp-capabilities")
	var offered struct{ Codecs []struct{ MimeType string } }
	if err := json.Unmarshal(got.Data, &offered); err != nil || len(offered.Codecs) != 1 || offered.Codecs[0].MimeType != "audio/opus" {
		t.Fatalf("capabilities %s, %v", got.raw, err)
	}
	for _, form := range []string{caps, `{"rtpCapabilities":` + caps + `}`} {
		if got := a.must("client-rtp-capabilities", form, "rtp-capabilities-ack"); got.Data != nil {
			t.Fatalf("the acknowledgement carries %s", got.Data)
		}
	}
	for data, want := range map[string]string{
		"":                        "Missing RTP capabilities in message",
		`{}`:                      "Missing RTP capabilities in message",
		`{"codecs":7}`:            "Invalid RTP capabilities format",
		`{"codecs":[{"kind":7}]}`: "Invalid RTP capabilities format",
	} {
		if got := a.must("client-rtp-capabilities", data, "error"); got.text() != want {
			t.Errorf("%s: %s, want %q", data, got.raw, want)
		}
	}
}

func TestCreateTransport(t *testing.T) {
	l := newLab(t, 1)
	a := l.join("ann", "c")
	got := a.must("create-transport", `{"type":"send"}`, "transport-params")
	var data map[string]json.RawMessage
	if err := json.Unmarshal(got.Data, &data); err != nil {
		t.Fatal(err)
	}
	if string(data["iceParameters"]) == "" || string(data["dtlsParameters"]) == "" || data["iceServers"] != nil {
		t.Fatalf("params %s", got.raw)
	}
	var candidates []struct {
		Address string
		Port    int
	}
	if err := json.Unmarshal(data["iceCandidates"], &candidates); err != nil || len(candidates) != 1 || candidates[0].Address != "192.0.2.9" || candidates[0].Port != 12825 {
		t.Fatalf("candidates %s, %v", data["iceCandidates"], err)
	}
	if f := l.workers[0].lastFamily(); f != workerv1.AddressFamily_ADDRESS_FAMILY_IPV4 {
		t.Fatalf("family %v", f)
	}
	servers := json.RawMessage(`[{"urls":"stun:stun.example.org"}]`)
	l.backend.iceServers.Store(&servers)
	got = a.must("create-transport", `{"type":"recv"}`, "transport-params")
	if err := json.Unmarshal(got.Data, &data); err != nil || string(data["iceServers"]) != string(servers) {
		t.Fatalf("params with ICE servers: %s", got.raw)
	}
}

func TestConnectTransport(t *testing.T) {
	l := newLab(t, 1)
	a := l.join("ann", "c")
	one, two, three := a.transport(), a.transport(), a.transport()
	got := a.must("connect-transport", fmt.Sprintf(`{"transportId":%q,"dtlsParameters":%s}`, two, fingerprints), "transport-connected")
	if got.field("id") != two || got.field("transportId") != two {
		t.Fatalf("connected: %s", got.raw)
	}
	before := l.workers[0].called("ConnectTransport")
	got = a.must("connect-transport", `{"dtlsParameters":`+fingerprints+`}`, "transport-connected")
	if got.Data != nil {
		t.Fatalf("connected all: %s", got.raw)
	}
	if n := l.workers[0].called("ConnectTransport") - before; n != 2 {
		t.Fatalf("%d transports were connected, want %s and %s", n, one, three)
	}
	got = a.must("connect-transport", fmt.Sprintf(`{"transportId":%q,"dtlsParameters":{}}`, one), "error")
	if got.text() != "Failed to connect transport" || got.Details != "0 dtls fingerprints: invalid" {
		t.Fatalf("refused: %s", got.raw)
	}
}

// TestProduceOrder holds the order of all events around a produce.
func TestProduceOrder(t *testing.T) {
	l := newLab(t, 1)
	a, b := l.join("ann", "c"), l.join("bob", "c")
	wantTypes(t, "ann", a.drain(), "currentlyInChannel")
	send := a.transport()
	id := a.say("produce", fmt.Sprintf(`{"kind":"audio","rtpParameters":%s}`, rtp))
	all := a.drain()
	wantTypes(t, "ann", all, "producer-id", "currentlyInChannel", "available-producers", "produced")
	producer := all[0].field("id")
	if all[0].RequestID != id || all[3].RequestID != id || all[3].field("id") != producer || all[3].field("kind") != "audio" ||
		all[0].field("userId") != "ann" || all[3].field("channelId") != "c" {
		t.Fatalf("answers %s, %s", all[0].raw, all[3].raw)
	}
	heard := b.drain()
	wantTypes(t, "bob", heard, "currentlyInChannel", "available-producers", "new-producer")
	if heard[0].ProducerUserMap[producer] != "ann" || !slices.Equal(heard[0].Producers, []string{producer}) {
		t.Fatalf("picture %s", heard[0].raw)
	}
	if heard[2].field("producerId") != producer || heard[2].field("userId") != "ann" {
		t.Fatalf("new producer %s", heard[2].raw)
	}
	t.Run("a second one ends the first", func(t *testing.T) {
		second := a.produce(send)
		heard := b.drain()
		wantTypes(t, "bob", heard, "producer-closed", "currentlyInChannel", "available-producers", "new-producer")
		if heard[0].field("producerId") != producer || !slices.Equal(heard[1].Producers, []string{second}) {
			t.Fatalf("bob hears %s, %s", heard[0].raw, heard[1].raw)
		}
		wantTypes(t, "ann", a.drain())
		l.holds(0, [4]int{1, 1, 1, 0})
		producer = second
	})
	t.Run("closing tells everyone", func(t *testing.T) {
		id := a.say("close-producer", fmt.Sprintf(`{"producerId":%q}`, producer))
		all := a.drain()
		wantTypes(t, "ann", all, "producer-closed", "currentlyInChannel")
		if all[0].RequestID != id || all[0].field("producerId") != producer || len(all[1].Producers) != 0 {
			t.Fatalf("ann is sent %s, %s", all[0].raw, all[1].raw)
		}
		wantTypes(t, "bob", b.drain(), "producer-closed", "currentlyInChannel")
		l.holds(0, [4]int{1, 1, 0, 0})
	})
	t.Run("its transport ends it", func(t *testing.T) {
		a.produce(send)
		b.drain()
		a.say("close-transport", fmt.Sprintf(`{"transportId":%q}`, send))
		all := a.drain()
		wantTypes(t, "ann", all, "transport-closed", "currentlyInChannel")
		if all[0].field("id") != send {
			t.Fatalf("closed %s", all[0].raw)
		}
		wantTypes(t, "bob", b.drain(), "producer-closed", "currentlyInChannel")
		l.holds(0, [4]int{1, 0, 0, 0})
	})
}

func TestConsume(t *testing.T) {
	l := newLab(t, 1)
	a, b, c := l.join("ann", "c"), l.join("bob", "c"), l.join("cid", "c")
	a.transport()
	own := a.produce("")
	first, second := b.transport(), b.transport()
	spoken := b.produce(first)
	c.transport()
	other := c.produce("")

	if got := b.ask("consume", fmt.Sprintf(`{"producerId":%q}`, own)); got.text() != "Cannot consume: missing RTP capabilities. Please send your RTP capabilities first." {
		t.Fatalf("without capabilities: %s", got.raw)
	}
	b.must("client-rtp-capabilities", caps, "rtp-capabilities-ack")
	got := b.must("consume", fmt.Sprintf(`{"producerId":%q}`, own), "consumer-params")
	if got.field("producerId") != own || got.field("userId") != "ann" || got.field("kind") != "audio" || got.field("id") == "" {
		t.Fatalf("params %s", got.raw)
	}
	if on := l.workers[0].consumerOn(got.field("id")); on != [2]string{second, own} {
		t.Fatalf("the consumer is on %v, want the newest transport %s", on, second)
	}
	if got := b.consume(own); got.text() != "Already consuming this producer" {
		t.Fatalf("repeated: %s", got.raw)
	}
	b.connect(first)
	got = b.must("consume", fmt.Sprintf(`{"producerId":%q}`, own), "consumer-params")
	if on := l.workers[0].consumerOn(got.field("id")); on[0] != first {
		t.Fatalf("the consumer is on %v, want the newest connected transport %s", on, first)
	}
	if got := b.must("consume", "", "consumer-params"); got.field("producerId") != other {
		t.Fatalf("without a producer: %s, want %s of cid", got.raw, other)
	}
	if got := b.must("consume", "", "error"); got.text() != "No producer available" {
		t.Fatalf("nobody is left: %s", got.raw)
	}
	if got := b.must("consume", fmt.Sprintf(`{"producerId":%q}`, spoken), "consumer-params"); got.field("userId") != "bob" {
		t.Fatalf("echo: %s", got.raw)
	}
	l.holds(0, [4]int{1, 4, 3, 4})
	a.must("close-producer", fmt.Sprintf(`{"producerId":%q}`, own), "producer-closed")
	l.holds(0, [4]int{1, 4, 2, 2})
	if got := b.consume(own); got.text() != "Cannot consume this producer: producer not found" {
		t.Fatalf("after its end: %s", got.raw)
	}
}

func TestPauseAndResume(t *testing.T) {
	l := newLab(t, 1)
	a, b := l.join("ann", "c"), l.join("bob", "c")
	send := a.transport()
	producer := a.produce("")
	recv := b.transport()
	consumer := b.consume(producer).field("id")
	w := l.workers[0]
	for _, row := range []struct {
		name, by, request, answer, data string
		want                            map[string]int
	}{
		{"a producer", "a", "pause", "paused", `{"producerId":"` + producer + `"}`, map[string]int{"PauseProducer": 1}},
		{"a producer again", "a", "resume", "resumed", `{"producerId":"` + producer + `"}`, map[string]int{"ResumeProducer": 1}},
		{"a consumer", "b", "pause", "paused", `{"consumerId":"` + consumer + `"}`, map[string]int{"PauseConsumer": 1}},
		{"a consumer again", "b", "resume", "resumed", `{"consumerId":"` + consumer + `"}`, map[string]int{"ResumeConsumer": 1}},
		{"a sending transport", "a", "pause", "paused", `{"transportId":"` + send + `"}`, map[string]int{"PauseProducer": 1}},
		{"a receiving transport", "b", "resume", "resumed", `{"transportId":"` + recv + `"}`, map[string]int{"ResumeConsumer": 1}},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := map[string]int{}
			for method := range row.want {
				before[method] = w.called(method)
			}
			s := a
			if row.by == "b" {
				s = b
			}
			got := s.must(row.request, row.data, row.answer)
			if string(got.Data) != row.data {
				t.Errorf("echoed %s, want %s", got.Data, row.data)
			}
			for method, n := range row.want {
				if called := w.called(method) - before[method]; called != n {
					t.Errorf("%s ran %d times", method, called)
				}
			}
		})
	}
	t.Run("what ended on the worker", func(t *testing.T) {
		w.mu.Lock()
		w.dropProducer(producer)
		w.mu.Unlock()
		for _, row := range []struct {
			by         *socket
			data, want string
		}{
			{a, `{"producerId":"` + producer + `"}`, "Producer not found"},
			{b, `{"consumerId":"` + consumer + `"}`, "Consumer not found"},
			{a, `{"transportId":"` + send + `"}`, "Transport not found"},
		} {
			if got := row.by.must("pause", row.data, "error"); got.text() != row.want {
				t.Errorf("%s: %s", row.data, got.raw)
			}
		}
		b.must("pause", `{"transportId":"`+recv+`"}`, "paused")
	})
}

// TestErrors has each row of the protocol's table that the registry answers.
func TestErrors(t *testing.T) {
	l := newLab(t, 1)
	stranger := l.join("sue", "c")
	theirs := stranger.transport()
	spoken := stranger.produce("")
	a, bare := l.join("ann", "c"), l.join("bea", "c")
	own := a.transport()
	for _, row := range []struct {
		name, typ, data, want, details string
		by                             *socket
	}{
		{"produce before any transport", "produce", `{"kind":"audio","rtpParameters":{}}`, "Transport not found", "", bare},
		{"consume before any transport", "consume", `{}`, "Transport not found", "", bare},
		{"connect before any transport", "connect-transport", `{"dtlsParameters":{}}`, "Transport not found", "", bare},
		{"produce on another's", "produce", `{"transportId":"` + theirs + `","kind":"audio","rtpParameters":{}}`, "Transport not found", "", a},
		{"consume on another's", "consume", `{"transportId":"` + theirs + `"}`, "Transport not found", "", a},
		{"connect another's", "connect-transport", `{"transportId":"` + theirs + `","dtlsParameters":{}}`, "Transport not found", "", a},
		{"close another's transport", "close-transport", `{"transportId":"` + theirs + `"}`, "Transport not found", "", a},
		{"pause another's transport", "pause", `{"transportId":"` + theirs + `"}`, "Transport not found", "", a},
		{"pause nothing", "pause", `{}`, "Transport not found", "", a},
		{"close another's producer", "close-producer", `{"producerId":"` + spoken + `"}`, "Producer not found", "", a},
		{"pause another's producer", "pause", `{"producerId":"` + spoken + `"}`, "Producer not found", "", a},
		{"resume no consumer", "resume", `{"consumerId":"nobody"}`, "Consumer not found", "", a},
		{"produce nothing", "produce", `{}`, "Failed to produce media", "kind missing or no string: invalid", a},
		{"produce video", "produce", `{"kind":"video","rtpParameters":` + rtp + `}`, "Failed to produce media", `kind "video": unsupported`, a},
		{"produce wrong types", "produce", `{"kind":"audio","rtpParameters":{"codecs":{}}}`, "Failed to produce media", "malformed RtpParameters: invalid", a},
		{"consume a stranger", "consume", `{"producerId":"nobody"}`, "Cannot consume this producer: producer not found", "", a},
		{"consume a number", "consume", `{"producerId":7}`, "Missing or invalid producerId in consume request", "", a},
		{"consume without capabilities", "consume", `{"producerId":"` + spoken + `"}`, "Cannot consume: missing RTP capabilities. Please send your RTP capabilities first.", "", a},
		{"consume with none in common", "consume", `{"producerId":"` + spoken + `","rtpCapabilities":{"codecs":[]}}`, "Cannot consume this producer: codec/parameter mismatch", "", a},
		{"connect without parameters", "connect-transport", `{"transportId":"` + own + `"}`, "Failed to connect transport", "dtlsParameters missing or no object: invalid", a},
		{"connect with wrong types", "connect-transport", `{"transportId":"` + own + `","dtlsParameters":{"fingerprints":7}}`, "Failed to connect transport", "malformed DtlsParameters: invalid", a},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := row.by.must(row.typ, row.data, "error"); got.text() != row.want || got.Details != row.details {
				t.Errorf("got %s, want %q and details %q", got.raw, row.want, row.details)
			}
		})
	}
	t.Run("another reason", func(t *testing.T) {
		l.workers[0].hooks(func(context.Context, string) error {
			return fmt.Errorf("no more room: %w", errs.ErrExhausted)
		}, nil)
		defer l.workers[0].hooks(nil, nil)
		for typ, row := range map[string][2]string{
			"consume":          {`{"producerId":"` + spoken + `","rtpCapabilities":` + caps + `}`, "Failed to consume media"},
			"produce":          {`{"kind":"audio","rtpParameters":` + rtp + `}`, "Failed to produce media"},
			"create-transport": {`{}`, "Failed to create transport"},
		} {
			if got := a.must(typ, row[0], "error"); got.text() != row[1] || got.Details != "no more room: exhausted" {
				t.Errorf("%s: %s", typ, got.raw)
			}
		}
	})
	if got := a.consume(spoken); got.Type != "consumer-params" {
		t.Errorf("after all that: %s", got.raw)
	}
	stranger.drain()
}

func TestTransportsAreBounded(t *testing.T) {
	l := newLab(t, 1)
	a := l.join("ann", "c")
	for range maxTransports {
		a.transport()
	}
	if got := a.must("create-transport", "", "error"); got.text() != "Too many transports" {
		t.Fatalf("one too many: %s", got.raw)
	}
	again := l.join("ann", "c")
	_ = a.conn.Close()
	await(t, "the first socket is gone", func() bool {
		r := l.backend.registry
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.sessions) == 1
	})
	again.transport() // an unused one of the former socket makes room
	l.holds(0, [4]int{1, maxTransports, 0, 0})
}
