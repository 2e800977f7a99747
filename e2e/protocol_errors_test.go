package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// TestBadInput sends every bad input of the protocol's error table, and asks
// after each whether the socket and everyone else still work.
func TestBadInput(t *testing.T) {
	s := startServer(t, settings{})
	const channel = "bad input"
	witness := s.enter(t, "witness", channel)
	witnessTransport := witness.createTransport(t, "send")
	theirs := witness.produce(t, witnessTransport.ID, "0", 1)

	// Users in the states that an input needs.
	bare := s.enter(t, "bare", channel)
	ready := s.enter(t, "ready", channel)
	ready.capabilities(t)
	own := ready.createTransport(t, "send")
	ready.produce(t, own.ID, "m", 100)
	blank := s.enter(t, "blank", channel) // has a transport and no capabilities
	blank.createTransport(t, "recv")
	alone := s.enter(t, "alone", "bad input, alone")
	alone.capabilities(t)
	alone.createTransport(t, "recv")

	produce := func(params string) string {
		return fmt.Sprintf(`{"type":"produce","data":{"kind":"audio","transportId":%q,"rtpParameters":%s}}`, own.ID, params)
	}
	request := func(kind, format string, args ...any) string {
		return fmt.Sprintf(`{"type":%q,"data":%s}`, kind, fmt.Sprintf(format, args...))
	}
	parameters := marshal(t, opusParameters("z", 55))
	const (
		noTransport = "Transport not found"
		produceText = "Failed to produce media"
		noCaps      = "Cannot consume: missing RTP capabilities. Please send your RTP capabilities first."
	)
	for _, row := range []struct {
		name    string
		who     *socket
		text    string
		want    string
		details bool
	}{
		{"no JSON", bare, `{"type":`, "Malformed JSON in message", false},
		{"nothing", bare, ``, "Malformed JSON in message", false},
		{"bytes", bare, "\xff\xfe\x00", "Malformed JSON in message", false},
		{"an array", bare, `[]`, "Invalid message format: missing type", false},
		{"null", bare, `null`, "Invalid message format: missing type", false},
		{"no type", bare, `{"data":1}`, "Invalid message format: missing type", false},
		{"a number as type", bare, `{"type":7}`, "Invalid message format: missing type", false},
		{"a type in other letters", bare, `{"type":"PING"}`, "Unknown message type: PING", false},
		{"an unknown type", bare, `{"type":"get-producers"}`, "Unknown message type: get-producers", false},

		{"connect without a transport", bare, request("connect-transport", `{"dtlsParameters":%s}`, marshal(t, someFingerprint())), noTransport, false},
		{"produce without a transport", bare, request("produce", `{"kind":"audio","rtpParameters":%s}`, parameters), noTransport, false},
		{"consume without a transport", bare, request("consume", `{"producerId":%q}`, theirs), noTransport, false},
		{"connect of another's", ready, request("connect-transport", `{"transportId":%q,"dtlsParameters":%s}`, witnessTransport.ID, marshal(t, someFingerprint())), noTransport, false},
		{"produce on another's", ready, request("produce", `{"transportId":%q,"kind":"audio","rtpParameters":%s}`, witnessTransport.ID, parameters), noTransport, false},
		{"consume on another's", ready, request("consume", `{"transportId":%q,"producerId":%q}`, witnessTransport.ID, theirs), noTransport, false},

		{"produce of nothing", ready, request("produce", `{"transportId":%q,"kind":"audio"}`, own.ID), produceText, true},
		{"produce of a text", ready, produce(`"text"`), produceText, true},
		{"produce without codecs", ready, produce(`{"codecs":[],"encodings":[{"ssrc":5}]}`), produceText, true},
		{"produce of video", ready, request("produce", `{"transportId":%q,"kind":"video","rtpParameters":%s}`, own.ID, parameters), produceText, true},
		{"produce of another codec", ready, produce(strings.Replace(parameters, "audio/opus", "audio/PCMU", 1)), produceText, true},
		{"produce with an SSRC in use", ready, produce(marshal(t, opusParameters("z", 100))), produceText, true},
		{"produce with SSRC 0", ready, produce(strings.Replace(parameters, `{"ssrc":55}`, `{"ssrc":0}`, 1)), produceText, true},

		{"consume of a stranger", ready, request("consume", `{"producerId":"nobody"}`), "Cannot consume this producer: producer not found", false},
		{"consume by a number", ready, request("consume", `{"producerId":7}`), "Missing or invalid producerId in consume request", false},
		{"consume without capabilities", blank, request("consume", `{"producerId":%q}`, theirs), noCaps, false},
		{"consume with other codecs", ready, request("consume", `{"producerId":%q,"rtpCapabilities":{"codecs":[{"kind":"audio","mimeType":"audio/PCMU","clockRate":8000,"preferredPayloadType":0}],"headerExtensions":[]}}`, theirs), "Cannot consume this producer: codec/parameter mismatch", false},
		{"consume in an empty channel", alone, request("consume", `{}`), "No producer available", false},

		{"pause of another's transport", ready, request("pause", `{"transportId":%q}`, witnessTransport.ID), noTransport, false},
		{"resume of another's producer", ready, request("resume", `{"producerId":%q}`, theirs), "Producer not found", false},
		{"pause of no consumer", ready, request("pause", `{"consumerId":"x"}`), "Consumer not found", false},
		{"close of another's producer", ready, request("close-producer", `{"producerId":%q}`, theirs), "Producer not found", false},
		{"close of another's transport", ready, request("close-transport", `{"transportId":%q}`, witnessTransport.ID), noTransport, false},

		{"no capabilities", ready, `{"type":"client-rtp-capabilities"}`, "Missing RTP capabilities in message", false},
		{"capabilities of no form", ready, request("client-rtp-capabilities", `{"rtpCapabilities":{"codecs":"all"}}`), "Invalid RTP capabilities format", false},
		{"connect with nothing", ready, request("connect-transport", `{"transportId":%q}`, own.ID), "Failed to connect transport", true},
		{"connect with a bad fingerprint", ready, request("connect-transport", `{"transportId":%q,"dtlsParameters":{"role":"client","fingerprints":[{"algorithm":"sha-256","value":"xyz"}]}}`, own.ID), "Failed to connect transport", true},
		{"connect with no fingerprint", ready, request("connect-transport", `{"transportId":%q,"dtlsParameters":{"role":"client","fingerprints":[]}}`, own.ID), "Failed to connect transport", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.who.sendText(t, row.text)
			got := row.who.expect(t, "error")
			if got.text() != row.want || (got.Details != "") != row.details {
				t.Errorf("got %s, want %q with details: %v", got.raw, row.want, row.details)
			}
			for _, c := range []*socket{row.who, witness} {
				c.must(t, "ping", nil, "pong")
			}
		})
	}
	t.Run("a repeated consume", func(t *testing.T) {
		consume := map[string]any{"producerId": theirs, "transportId": ready.createTransport(t, "recv").ID}
		ready.must(t, "consume", consume, "consumer-params")
		for range 3 {
			if got := ready.must(t, "consume", consume, "error"); got.text() != repeatedConsume {
				t.Errorf("got %s", got.raw)
			}
		}
	})
	t.Run("a long type is cut", func(t *testing.T) {
		bare.sendText(t, fmt.Sprintf(`{"type":%q}`, strings.Repeat("x", 5000)))
		if got := bare.expect(t, "error"); len(got.raw) > 500 || !strings.HasPrefix(got.text(), "Unknown message type: xxx") {
			t.Errorf("got %d bytes: %.100s", len(got.raw), got.raw)
		}
	})
	t.Run("an oversized frame ends its socket only", func(t *testing.T) {
		big := s.enter(t, "big", channel)
		_ = big.conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"`+strings.Repeat("x", 4<<20)+`"}`))
		if code, text := big.closed(t); code != websocket.CloseMessageTooBig && code != websocket.ClosePolicyViolation {
			t.Errorf("closed with %d %q", code, text)
		}
		witness.must(t, "ping", nil, "pong")
	})
	t.Run("a flood ends its socket only", func(t *testing.T) {
		flood := s.enter(t, "flood", channel)
		for range 200000 {
			if flood.conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"nonsense"}`)) != nil {
				break
			}
		}
		if code, text := flood.closed(t); code != websocket.ClosePolicyViolation {
			t.Errorf("closed with %d %q", code, text)
		}
		witness.must(t, "ping", nil, "pong")
	})
}
