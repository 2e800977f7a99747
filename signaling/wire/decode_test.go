package wire

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

const chromiumCaps = `{"codecs":[{"mimeType":"audio/opus","kind":"audio","preferredPayloadType":100,"clockRate":48000,"channels":2,"parameters":{"minptime":10,"useinbandfec":1},"rtcpFeedback":[{"type":"transport-cc","parameter":""}]}],"headerExtensions":[{"kind":"audio","uri":"urn:ietf:params:rtp-hdrext:sdes:mid","preferredId":1,"preferredEncrypt":false,"direction":"sendrecv"}]}`

func TestDecode(t *testing.T) {
	for _, row := range []struct {
		name, frame string
		want        Payload
		err         string
	}{
		{"ping", `{"type":"ping"}`, Ping{}, ""},
		{"pong", `{"type":"pong","timestamp":1}`, Pong{}, ""},
		{"white space", " \n{ \"type\" : \"ping\" } ", Ping{}, ""},
		{"capabilities asked", `{"type":"get-rtp-capabilities"}`, GetRtpCapabilities{}, ""},
		{"capabilities bare", `{"type":"client-rtp-capabilities","data":{"codecs":[]}}`, ClientRtpCapabilities{raw(`{"codecs":[]}`)}, ""},
		{"capabilities wrapped", `{"type":"client-rtp-capabilities","data":{"rtpCapabilities":{"codecs":[]}}}`, ClientRtpCapabilities{raw(`{"codecs":[]}`)}, ""},
		{"transport to send", `{"type":"create-transport","data":{"type":"send"}}`, CreateTransport{"send"}, ""},
		{"transport without a direction", `{"type":"create-transport"}`, CreateTransport{}, ""},
		{"transport of a strange direction", `{"type":"create-transport","data":{"type":9}}`, CreateTransport{}, ""},
		{"transport with strange data", `{"type":"create-transport","data":"send"}`, CreateTransport{}, ""},
		{"connect", `{"type":"connect-transport","data":{"transportId":"t","dtlsParameters":{"role":"client"}}}`, ConnectTransport{TransportID: "t", DtlsParameters: raw(`{"role":"client"}`)}, ""},
		{"connect all", `{"type":"connect-transport","data":{"dtlsParameters":{},"transportId":null}}`, ConnectTransport{DtlsParameters: raw(`{}`)}, ""},
		{"produce", `{"type":"produce","data":{"transportId":"t","kind":"audio","rtpParameters":{"mid":"0"}}}`, Produce{TransportID: "t", Kind: "audio", RtpParameters: raw(`{"mid":"0"}`)}, ""},
		{"consume", `{"type":"consume","data":{"producerId":"p","transportId":"t","rtpCapabilities":{"codecs":[]}}}`, Consume{"p", "t", raw(`{"codecs":[]}`)}, ""},
		{"consume anybody", `{"type":"consume","data":{}}`, Consume{}, ""},
		{"consume without data", `{"type":"consume"}`, Consume{}, ""},
		{"pause a transport", `{"type":"pause","data":{"transportId":"t"}}`, Pause{Target{TransportID: "t"}}, ""},
		{"pause without data", `{"type":"pause"}`, Pause{}, ""},
		{"resume a producer", `{"type":"resume","data":{"producerId":"p"}}`, Resume{Target{ProducerID: "p"}}, ""},
		{"resume the narrowest", `{"type":"resume","data":{"transportId":"t","producerId":"p","consumerId":"c"}}`, Resume{Target{ConsumerID: "c"}}, ""},
		{"close a producer", `{"type":"close-producer","data":{"producerId":"p"}}`, CloseProducer{"p"}, ""},
		{"close a transport", `{"type":"close-transport","data":{"transportId":"t"}}`, CloseTransport{"t"}, ""},
		{"the last of a repeated name counts", `{"type":"pause","type":"ping"}`, Ping{}, ""},
		{"other letters are another name", `{"type":"ping","Type":"pause","TYPE":7}`, Ping{}, ""},
		{"brackets in strings are no depth", `{"type":"ping","x":"` + strings.Repeat(`[\"{`, 200) + `"}`, Ping{}, ""},

		{"nothing", ``, nil, "Malformed JSON in message"},
		{"half", `{"type":`, nil, "Malformed JSON in message"},
		{"two values", `{"type":"ping"}{}`, nil, "Malformed JSON in message"},
		{"no UTF-8", "{\"type\":\"\xff\"}", nil, "Malformed JSON in message"},
		{"too deep", `{"type":"ping","x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, nil, "Malformed JSON in message"},
		{"an array", `[{"type":"ping"}]`, nil, "Invalid message format: missing type"},
		{"a string", `"ping"`, nil, "Invalid message format: missing type"},
		{"null", `null`, nil, "Invalid message format: missing type"},
		{"no type", `{}`, nil, "Invalid message format: missing type"},
		{"a type that is null", `{"type":null}`, nil, "Invalid message format: missing type"},
		{"a type that is a number", `{"type":1}`, nil, "Invalid message format: missing type"},
		{"an empty type", `{"type":""}`, nil, "Invalid message format: missing type"},
		{"a type in capitals", `{"type":"PING"}`, nil, "Unknown message type: PING"},
		{"a type of another time", `{"type":"get-producers","data":{}}`, nil, "Unknown message type: get-producers"},
		{"a long type", `{"type":"` + strings.Repeat("ä", 40) + `"}`, nil, "Unknown message type: " + strings.Repeat("ä", 32)},

		{"no capabilities", `{"type":"client-rtp-capabilities"}`, ClientRtpCapabilities{}, "Missing RTP capabilities in message"},
		{"null capabilities", `{"type":"client-rtp-capabilities","data":null}`, ClientRtpCapabilities{}, "Missing RTP capabilities in message"},
		{"empty data", `{"type":"client-rtp-capabilities","data":{}}`, ClientRtpCapabilities{}, "Missing RTP capabilities in message"},
		{"wrapped null", `{"type":"client-rtp-capabilities","data":{"rtpCapabilities":null}}`, ClientRtpCapabilities{}, "Missing RTP capabilities in message"},
		{"wrapped text", `{"type":"client-rtp-capabilities","data":{"rtpCapabilities":"x"}}`, ClientRtpCapabilities{}, "Invalid RTP capabilities format"},
		{"a list", `{"type":"client-rtp-capabilities","data":[]}`, ClientRtpCapabilities{}, "Invalid RTP capabilities format"},
		{"codecs of no form", `{"type":"client-rtp-capabilities","data":{"codecs":{}}}`, ClientRtpCapabilities{}, "Invalid RTP capabilities format"},
		{"without codecs", `{"type":"client-rtp-capabilities","data":{"rtpCapabilities":{}}}`, ClientRtpCapabilities{}, "Invalid RTP capabilities format"},

		{"connect by a number", `{"type":"connect-transport","data":{"transportId":5,"dtlsParameters":{}}}`, ConnectTransport{}, "Transport not found"},
		{"produce by a list", `{"type":"produce","data":{"transportId":["t"]}}`, Produce{}, "Transport not found"},
		{"consume a number", `{"type":"consume","data":{"producerId":5}}`, Consume{}, "Missing or invalid producerId in consume request"},
		{"consume null", `{"type":"consume","data":{"producerId":null}}`, Consume{}, "Missing or invalid producerId in consume request"},
		{"consume an empty name", `{"type":"consume","data":{"producerId":""}}`, Consume{}, "Missing or invalid producerId in consume request"},
		{"consume with text for data", `{"type":"consume","data":"p"}`, Consume{}, "Missing or invalid producerId in consume request"},
		{"consume a long name", `{"type":"consume","data":{"producerId":"` + strings.Repeat("p", 200) + `"}}`, Consume{}, "Cannot consume this producer: producer not found"},
		{"consume on a number", `{"type":"consume","data":{"producerId":"p","transportId":1}}`, Consume{ProducerID: "p"}, "Transport not found"},
		{"consume with bad capabilities", `{"type":"consume","data":{"producerId":"p","rtpCapabilities":[]}}`, Consume{ProducerID: "p"}, "Invalid RTP capabilities format"},
		{"pause by a number", `{"type":"pause","data":{"transportId":1}}`, Pause{}, "Transport not found"},
		{"pause a producer by a number", `{"type":"pause","data":{"producerId":1}}`, Pause{}, "Producer not found"},
		{"resume a consumer by a list", `{"type":"resume","data":{"consumerId":[]}}`, Resume{}, "Consumer not found"},
		{"close no producer", `{"type":"close-producer"}`, CloseProducer{}, "Producer not found"},
		{"close a numbered producer", `{"type":"close-producer","data":{"producerId":1}}`, CloseProducer{}, "Producer not found"},
		{"close no transport", `{"type":"close-transport","data":{}}`, CloseTransport{}, "Transport not found"},
	} {
		t.Run(row.name, func(t *testing.T) {
			req, fault := Decode([]byte(row.frame))
			if got := errorText(fault); got != row.err {
				t.Errorf("error %q, want %q", got, row.err)
			}
			if !reflect.DeepEqual(req.Data, row.want) {
				t.Errorf("got %#v, want %#v", req.Data, row.want)
			}
		})
	}
}

// TestDecodeFaults has data that is wrong only once a transport was found.
func TestDecodeFaults(t *testing.T) {
	for _, row := range []struct{ name, frame, text string }{
		{"connect with nothing", `{"type":"connect-transport"}`, "Failed to connect transport"},
		{"connect with a text", `{"type":"connect-transport","data":{"transportId":"t","dtlsParameters":"x"}}`, "Failed to connect transport"},
		{"produce of nothing", `{"type":"produce","data":{"transportId":"t"}}`, "Failed to produce media"},
		{"produce without data", `{"type":"produce"}`, "Failed to produce media"},
		{"produce without parameters", `{"type":"produce","data":{"transportId":"t","kind":"audio"}}`, "Failed to produce media"},
		{"produce of a list", `{"type":"produce","data":{"kind":"audio","rtpParameters":[]}}`, "Failed to produce media"},
		{"produce of a numbered kind", `{"type":"produce","data":{"kind":1,"rtpParameters":{}}}`, "Failed to produce media"},
	} {
		t.Run(row.name, func(t *testing.T) {
			req, fault := Decode([]byte(row.frame))
			if fault != nil {
				t.Fatal(fault)
			}
			var late *Error
			switch p := req.Data.(type) {
			case ConnectTransport:
				late = p.Fault
			case Produce:
				late = p.Fault
			}
			if late == nil || late.Text != row.text || late.Details == "" {
				t.Errorf("got %#v", late)
			}
		})
	}
}

func TestRequestID(t *testing.T) {
	long := `"` + strings.Repeat("x", 300) + `"`
	for _, row := range []struct{ name, id, want string }{
		{"a number", `7`, `7`},
		{"a text", `"a \"b\" <c>"`, `"a \"b\" <c>"`},
		{"an object", `{"a":[1,null]}`, `{"a":[1,null]}`},
		{"false", `false`, `false`},
		{"null is none", `null`, ``},
		{"a long one is none", long, ``},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, typ := range []string{"ping", "nonsense"} {
				req, _ := Decode(fmt.Appendf(nil, `{"type":%q,"requestId":%s}`, typ, row.id))
				if string(req.RequestID) != row.want {
					t.Errorf("%s: got %s", typ, req.RequestID)
				}
			}
		})
	}
}

func raw(s string) json.RawMessage { return json.RawMessage(s) }

func errorText(e *Error) string {
	if e == nil {
		return ""
	}
	return e.Text
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"type":"ping","requestId":1}`,
		`{"type":"client-rtp-capabilities","data":{"rtpCapabilities":` + chromiumCaps + `}}`,
		`{"type":"create-transport","data":{"type":"recv"}}`,
		`{"type":"connect-transport","data":{"dtlsParameters":{"role":"client","fingerprints":[{"algorithm":"sha-256","value":"AA:BB"}]},"transportId":"8c1f"}}`,
		`{"type":"produce","data":{"kind":"audio","transportId":"8c1f","rtpParameters":{"mid":"0","codecs":[{"mimeType":"audio/opus","payloadType":111,"clockRate":48000,"channels":2}],"headerExtensions":[],"encodings":[{"ssrc":1234}],"rtcp":{"cname":"x","reducedSize":true}}}}`,
		`{"type":"consume","requestId":"r","data":{"producerId":"p","rtpCapabilities":` + chromiumCaps + `,"transportId":"t"}}`,
		`{"type":"resume","data":{"consumerId":"c"}}`,
		`{"type":"close-producer","data":{"producerId":"p"}}`,
		`{"type":"\ud800","requestId":{"a":"\\"}}`,
		`[]`, `null`, `{"type":`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		req, fault := Decode(frame)
		if fault == nil && req.Data == nil {
			t.Fatal("neither data nor a fault")
		}
		if len(req.RequestID) > maxRequestIDBytes {
			t.Fatal("a long request id is kept")
		}
		m, known := ErrorFor(orOther(fault), req.RequestID)
		e, err := Encode(m)
		if err != nil || !known {
			t.Fatal(err)
		}
		if !json.Valid(e.Bytes()) || !utf8.Valid(e.Bytes()) || len(e.Bytes()) > 8*(maxRequestIDBytes+maxDetailsBytes+maxTypeBytes) {
			t.Fatalf("answer %q", e.Bytes())
		}
	})
}

// orOther gives a nil fault a text, so that the answer is always encoded.
func orOther(e *Error) *Error {
	if e == nil {
		return ErrNoProducer()
	}
	return e
}

func BenchmarkDecodeConsume(b *testing.B) {
	frame := []byte(`{"type":"consume","data":{"producerId":"0f8fad5b-d9cb-469f-a165-70867728950e","rtpCapabilities":` + chromiumCaps + `,"transportId":"0f8fad5b-d9cb-469f-a165-70867728950e"}}`)
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		if _, fault := Decode(frame); fault != nil {
			b.Fatal(fault)
		}
	}
}
