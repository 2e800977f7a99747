package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
)

func TestEncode(t *testing.T) {
	id := raw(`"r"`)
	for _, row := range []struct {
		message Message
		want    string
	}{
		{PongMessage{Timestamp: 5}, `{"type":"pong","timestamp":5,"requestId":null}`},
		{PongMessage{Timestamp: 5, RequestID: raw(`{"a":1}`)}, `{"type":"pong","timestamp":5,"requestId":{"a":1}}`},
		{PingMessage{Timestamp: 5}, `{"type":"ping","timestamp":5}`},
		{RtpCapabilitiesMessage{id, raw(`{"codecs":[]}`)}, `{"type":"rtp-capabilities","requestId":"r","data":{"codecs":[]}}`},
		{RtpCapabilitiesAck{}, `{"type":"rtp-capabilities-ack"}`},
		{
			TransportParams{id, TransportParamsData{"t", raw(`{"iceLite":true}`), raw(`[]`), raw(`{"role":"auto"}`), nil}},
			`{"type":"transport-params","requestId":"r","data":{"id":"t","iceParameters":{"iceLite":true},"iceCandidates":[],"dtlsParameters":{"role":"auto"}}}`,
		},
		{
			TransportParams{nil, TransportParamsData{"t", raw(`{}`), raw(`[]`), raw(`{}`), raw(`[{"urls":"stun:x"}]`)}},
			`{"type":"transport-params","data":{"id":"t","iceParameters":{},"iceCandidates":[],"dtlsParameters":{},"iceServers":[{"urls":"stun:x"}]}}`,
		},
		{TransportConnected{id, "t"}, `{"type":"transport-connected","requestId":"r","data":{"id":"t","transportId":"t"}}`},
		{TransportConnected{}, `{"type":"transport-connected"}`},
		{ProducerIDMessage{nil, "p", "u", "c"}, `{"type":"producer-id","data":{"id":"p","userId":"u","channelId":"c"}}`},
		{
			Produced{id, ProducedData{"p", "u", "c", "audio", raw(`{"mid":"0"}`)}},
			`{"type":"produced","requestId":"r","data":{"id":"p","userId":"u","channelId":"c","kind":"audio","rtpParameters":{"mid":"0"}}}`,
		},
		{
			ConsumerParams{id, ConsumerParamsData{"c", "p", "audio", raw(`{}`), "u"}},
			`{"type":"consumer-params","requestId":"r","data":{"id":"c","producerId":"p","kind":"audio","rtpParameters":{},"userId":"u"}}`,
		},
		{Paused{id, Target{TransportID: "t"}}, `{"type":"paused","requestId":"r","data":{"transportId":"t"}}`},
		{Resumed{nil, Target{ConsumerID: "c"}}, `{"type":"resumed","data":{"consumerId":"c"}}`},
		{TransportCloseAnswer{id, "t"}, `{"type":"transport-closed","requestId":"r","data":{"id":"t"}}`},
		{CurrentlyInChannel{}, `{"type":"currentlyInChannel","inRoom":[],"producers":[],"producerUserMap":{}}`},
		{
			CurrentlyInChannel{[]ident.UserID{"u"}, []Production{{"p", "u"}}},
			`{"type":"currentlyInChannel","inRoom":["u"],"producers":["p"],"producerUserMap":{"p":"u"}}`,
		},
		{Connected{"c", "u", MessageConnected}, `{"type":"connected","data":{"channelId":"c","userId":"u","message":"dspeak socket connection successful"}}`},
		{
			CurrentlyInChannel{[]ident.UserID{"a\"b", "<ü>\n", "\xff"}, []Production{{"p", "a\"b"}, {"q", "<ü>\n"}}},
			`{"type":"currentlyInChannel","inRoom":["a\"b","<ü>\n","\ufffd"],"producers":["p","q"],"producerUserMap":{"p":"a\"b","q":"<ü>\n"}}`,
		},
		{AvailableProducers{}, `{"type":"available-producers","data":{"producers":[],"producerUserMap":{}}}`},
		{AvailableProducers{[]Production{{"p", "u"}}}, `{"type":"available-producers","data":{"producers":["p"],"producerUserMap":{"p":"u"}}}`},
		{NewProducer{"p", "u"}, `{"type":"new-producer","data":{"producerId":"p","userId":"u"}}`},
		{ProducerClosed{nil, "p", "u"}, `{"type":"producer-closed","data":{"producerId":"p","userId":"u"}}`},
		{ProducerClosed{id, "p", "u"}, `{"type":"producer-closed","requestId":"r","data":{"producerId":"p","userId":"u"}}`},
		{TransportClosed{"t", "dtls failed"}, `{"type":"transport-closed","transportId":"t","reason":"dtls failed","data":{"id":"t","reason":"dtls failed"}}`},
		{ForceDisconnect{"be nice"}, `{"type":"force_disconnect","reason":"be nice"}`},
		{ServerRestarting{"upgrade", 5}, `{"type":"server-restarting","data":{"reason":"upgrade","eta":5}}`},
		{ServerShutdown{"end", 0.5}, `{"type":"server-shutdown","data":{"reason":"end","eta":0.5}}`},
		{ErrorMessage{Text: "<no>"}, `{"type":"error","data":"<no>"}`},
		{ErrorMessage{id, "no", "why", 403}, `{"type":"error","data":"no","requestId":"r","details":"why","status":403}`},
	} {
		t.Run(fmt.Sprintf("%T", row.message), func(t *testing.T) {
			e, err := Encode(row.message)
			if err != nil {
				t.Fatal(err)
			}
			var got, want any
			if err := json.Unmarshal(e.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(row.want), &want); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %s\nwant %s", e.Bytes(), row.want)
			}
		})
	}
}

func TestEncodeRefusesBrokenRaw(t *testing.T) {
	if _, err := Encode(RtpCapabilitiesMessage{Data: raw(`{`)}); err == nil {
		t.Error("broken JSON is written")
	}
}

func TestErrorFor(t *testing.T) {
	secret := errors.New("password of the database")
	for _, row := range []struct {
		name  string
		err   error
		want  ErrorMessage
		known bool
	}{
		{"a text", ErrConsumeMismatch(), ErrorMessage{Text: "Cannot consume this producer: codec/parameter mismatch"}, true},
		{"a wrapped text", fmt.Errorf("consume: %w", ErrNoProducer()), ErrorMessage{Text: "No producer available"}, true},
		{"a reason", ErrProduceFailed(errors.New("no codecs")), ErrorMessage{Text: "Failed to produce media", Details: "no codecs"}, true},
		{"a status", ErrValidationFailed(401), ErrorMessage{Text: "Channel validation failed", Status: 401}, true},
		{"no worker", fmt.Errorf("x: %w", errs.ErrUnavailable), ErrorMessage{Text: "Router not ready"}, true},
		{"a limit", errs.ErrExhausted, ErrorMessage{Text: "Limit reached"}, true},
		{"closing", errs.ErrClosed, ErrorMessage{Text: "Session is closing"}, true},
		{"anything else", secret, ErrorMessage{Text: "Internal server error"}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.want.RequestID = raw(`1`)
			got, known := ErrorFor(row.err, raw(`1`))
			if !reflect.DeepEqual(got, row.want) || known != row.known {
				t.Errorf("got %+v %v", got, known)
			}
		})
	}
}

// TestErrorTexts holds the protocol's sentences and what they wrap.
func TestErrorTexts(t *testing.T) {
	why := fmt.Errorf("why: %w", errs.ErrInvalid)
	for text, row := range map[string]struct {
		err  *Error
		kind error
	}{
		"Malformed JSON in message":                              {ErrMalformed(), errs.ErrInvalid},
		"Invalid message format: missing type":                   {ErrMissingType(), errs.ErrInvalid},
		"Unknown message type: x":                                {ErrUnknownType("x"), errs.ErrInvalid},
		"Transport not found":                                    {ErrTransportNotFound(), errs.ErrNotFound},
		"Producer not found":                                     {ErrProducerNotFound(), errs.ErrNotFound},
		"Consumer not found":                                     {ErrConsumerNotFound(), errs.ErrNotFound},
		"Failed to produce media":                                {ErrProduceFailed(why), errs.ErrInvalid},
		"Cannot consume this producer: producer not found":       {ErrConsumeNotFound(), errs.ErrNotFound},
		"Missing or invalid producerId in consume request":       {ErrConsumeProducerID(), errs.ErrInvalid},
		"No producer available":                                  {ErrNoProducer(), errs.ErrNotFound},
		"Already consuming this producer":                        {ErrAlreadyConsuming(), errs.ErrExists},
		"Failed to consume media":                                {ErrConsumeFailed(why), errs.ErrInvalid},
		"Failed to create transport":                             {ErrCreateTransportFailed(why), errs.ErrInvalid},
		"Missing RTP capabilities in message":                    {ErrMissingCapabilities(), errs.ErrInvalid},
		"Invalid RTP capabilities format":                        {ErrInvalidCapabilities(), errs.ErrInvalid},
		"Failed to connect transport":                            {ErrConnectFailed(why), errs.ErrInvalid},
		"Router not ready":                                       {ErrRouterNotReady(), errs.ErrUnavailable},
		"Too many transports":                                    {ErrLimit("transports"), errs.ErrExhausted},
		"Missing auth or channelId in query params":              {ErrMissingQuery(), errs.ErrInvalid},
		"Channel validation failed":                              {ErrValidationFailed(500), errs.ErrDenied},
		"Channel is not a media channel":                         {ErrNotMedia(), errs.ErrDenied},
		"Backend validation error":                               {ErrBackendValidation(), errs.ErrUnavailable},
		"Cannot consume this producer: codec/parameter mismatch": {ErrConsumeMismatch(), errs.ErrUnsupported},
		"Cannot consume: missing RTP capabilities. Please send your RTP capabilities first.": {ErrConsumeNoCapabilities(), errs.ErrInvalid},
	} {
		if row.err.Text != text || !errors.Is(row.err, row.kind) || !strings.HasPrefix(row.err.Error(), text) {
			t.Errorf("%q is %q, %v", text, row.err.Text, row.err)
		}
	}
}

func TestCut(t *testing.T) {
	for _, row := range []struct {
		in   string
		n    int
		want string
	}{
		{"abc", 3, "abc"},
		{"abcd", 3, "abc"},
		{"aää", 4, "aä"},
		{"\xff\xfea", 9, "a"},
		{"日本", 2, ""},
		{"", 0, ""},
	} {
		if got := Cut(row.in, row.n); got != row.want || !utf8.ValidString(got) {
			t.Errorf("Cut(%q, %d) is %q", row.in, row.n, got)
		}
	}
}
