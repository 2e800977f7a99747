package worker

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/dspeak/sfu/internal/errs"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/worker/ortc"
	"github.com/dspeak/sfu/worker/rtc"
)

// What the shipped client sends over the signaling socket, from Chromium and Firefox.
const (
	chromiumProduce = `{"mid":"0","codecs":[{"mimeType":"audio/opus","payloadType":111,"clockRate":48000,"channels":2,
		"parameters":{"minptime":10,"useinbandfec":1,"sprop-stereo":1,"usedtx":1},"rtcpFeedback":[{"type":"transport-cc","parameter":""}]}],
		"headerExtensions":[{"uri":"urn:ietf:params:rtp-hdrext:sdes:mid","id":4,"encrypt":false,"parameters":{}},
		{"uri":"http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time","id":2,"encrypt":false,"parameters":{}},
		{"uri":"http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01","id":3,"encrypt":false,"parameters":{}},
		{"uri":"urn:ietf:params:rtp-hdrext:ssrc-audio-level","id":1,"encrypt":false,"parameters":{}}],
		"encodings":[{"active":true,"maxBitrate":64000,"ssrc":2874160933,"dtx":false}],
		"rtcp":{"cname":"8nPq/YcL0vJ+u2Dh","reducedSize":true}}`
	firefoxProduce = `{"mid":"2","codecs":[{"mimeType":"audio/opus","payloadType":109,"clockRate":48000,"channels":2,
		"parameters":{"maxplaybackrate":48000,"stereo":1,"useinbandfec":1},"rtcpFeedback":[]}],
		"headerExtensions":[{"uri":"urn:ietf:params:rtp-hdrext:sdes:mid","id":3,"encrypt":false,"parameters":{}},
		{"uri":"urn:ietf:params:rtp-hdrext:ssrc-audio-level","id":1,"encrypt":false,"parameters":{}}],
		"encodings":[{"ssrc":1187235,"dtx":false}],
		"rtcp":{"cname":"{0e5bd04a-5c30-4a4e-a8fd-9c2a40d1b6a3}","reducedSize":true}}`
	shippedCapabilities = `{"codecs":[{"mimeType":"audio/opus","kind":"audio","preferredPayloadType":100,"clockRate":48000,"channels":2,
		"parameters":{"minptime":10,"useinbandfec":1,"sprop-stereo":1,"usedtx":1},
		"rtcpFeedback":[{"type":"transport-cc","parameter":""},{"type":"nack","parameter":""}]}],
		"headerExtensions":[{"kind":"audio","uri":"urn:ietf:params:rtp-hdrext:sdes:mid","preferredId":1,"preferredEncrypt":false,"direction":"sendrecv"},
		{"kind":"audio","uri":"http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time","preferredId":4,"preferredEncrypt":false,"direction":"sendrecv"},
		{"kind":"audio","uri":"urn:ietf:params:rtp-hdrext:ssrc-audio-level","preferredId":10,"preferredEncrypt":false,"direction":"sendrecv"}]}`
)

// decode reads JSON as the supervisor does.
func decode[M proto.Message](t *testing.T, text string, m M) M {
	t.Helper()
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// checkJSON compares a message's JSON form with want, whatever the order of keys.
func checkJSON(t *testing.T, m proto.Message, want string) {
	t.Helper()
	encoded, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var gotValue, wantValue any
	if err := errors.Join(json.Unmarshal(encoded, &gotValue), json.Unmarshal([]byte(want), &wantValue)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(gotValue, wantValue) {
		t.Fatalf("got  %s\nwant %s", encoded, want)
	}
}

// negotiate takes a producer's parameters to those of a listener.
func negotiate(produce *workerv1.RtpParameters, listen *workerv1.RtpCapabilities) (*workerv1.RtpParameters, error) {
	params, err := toRtpParameters(produce)
	if err != nil {
		return nil, err
	}
	params = ortc.SentRtpParameters(params)
	caps, err := toRtpCapabilities(listen)
	if err != nil {
		return nil, err
	}
	router := ortc.RouterRtpCapabilities()
	mapping, err := ortc.ProducerRtpMapping(params, router)
	if err != nil {
		return nil, err
	}
	consumable, err := ortc.ConsumableRtpParameters("audio", params, router, mapping)
	if err != nil {
		return nil, err
	}
	consumer, err := ortc.ConsumerRtpParameters(consumable, caps, 4242, "7")
	if err != nil {
		return nil, err
	}
	return fromRtpParameters(consumer), nil
}

func TestListenerGetsWhatItsClientReads(t *testing.T) {
	const extensions = `"headerExtensions":[{"uri":"urn:ietf:params:rtp-hdrext:sdes:mid","id":1,"parameters":{}},
		{"uri":"http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time","id":4,"parameters":{}},
		{"uri":"urn:ietf:params:rtp-hdrext:ssrc-audio-level","id":10,"parameters":{}}]`
	for name, row := range map[string]struct{ produce, want string }{
		"chromium speaks": {chromiumProduce, `{"mid":"7","codecs":[{"mimeType":"audio/opus","payloadType":100,"clockRate":48000,"channels":2,
			"parameters":{"minptime":10,"useinbandfec":1,"sprop-stereo":1,"usedtx":1},"rtcpFeedback":[{"type":"nack"}]}],` + extensions + `,
			"encodings":[{"ssrc":4242,"maxBitrate":64000}],"rtcp":{"cname":"8nPq/YcL0vJ+u2Dh","reducedSize":true,"mux":true}}`},
		"firefox speaks": {firefoxProduce, `{"mid":"7","codecs":[{"mimeType":"audio/opus","payloadType":100,"clockRate":48000,"channels":2,
			"parameters":{"maxplaybackrate":48000,"stereo":1,"useinbandfec":1},"rtcpFeedback":[{"type":"nack"}]}],` + extensions + `,
			"encodings":[{"ssrc":4242}],"rtcp":{"cname":"{0e5bd04a-5c30-4a4e-a8fd-9c2a40d1b6a3}","reducedSize":true,"mux":true}}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := negotiate(decode(t, row.produce, &workerv1.RtpParameters{}),
				decode(t, shippedCapabilities, &workerv1.RtpCapabilities{}))
			if err != nil {
				t.Fatal(err)
			}
			checkJSON(t, got, row.want)
		})
	}
}

func TestRouterCapabilitiesAsJSON(t *testing.T) {
	checkJSON(t, fromRtpCapabilities(ortc.RouterRtpCapabilities()), `{"codecs":[{"kind":"audio","mimeType":"audio/opus",
		"preferredPayloadType":100,"clockRate":48000,"channels":2,"parameters":{"useinbandfec":1},
		"rtcpFeedback":[{"type":"nack"},{"type":"transport-cc"}]}],"headerExtensions":[
		{"kind":"audio","uri":"urn:ietf:params:rtp-hdrext:sdes:mid","preferredId":1,"direction":"sendrecv"},
		{"kind":"audio","uri":"http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time","preferredId":4,"direction":"sendrecv"},
		{"kind":"audio","uri":"http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01","preferredId":5,"direction":"recvonly"},
		{"kind":"audio","uri":"urn:ietf:params:rtp-hdrext:ssrc-audio-level","preferredId":10,"direction":"sendrecv"}]}`)
}

func TestRtpParametersRoundTrip(t *testing.T) {
	want := ortc.RtpParameters{
		Mid: "3",
		Codecs: []ortc.RtpCodecParameters{{
			MimeType: "audio/opus", PayloadType: 127, ClockRate: 48000, Channels: 2,
			Parameters:   ortc.Parameters{"ptime": int64(-3), "x": "text"},
			RtcpFeedback: []ortc.RtcpFeedback{{Type: "nack"}, {Type: "ccm", Parameter: "fir"}},
		}},
		HeaderExtensions: []ortc.RtpHeaderExtensionParameters{
			{URI: ortc.URIMid, ID: 255, Encrypt: true, Parameters: ortc.Parameters{"a": int64(1)}},
		},
		Encodings: []ortc.RtpEncodingParameters{
			{SSRC: math.MaxUint32, RID: "r", CodecPayloadType: 127, DTX: true, MaxBitrate: math.MaxUint32},
		},
		Rtcp: ortc.RtcpParameters{CNAME: "c", ReducedSize: new(false), Mux: new(true)},
	}
	got, err := toRtpParameters(fromRtpParameters(want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v, %v\nwant %+v", got, err, want)
	}
}

// fullCapabilities have every field.
func fullCapabilities() ortc.RtpCapabilities {
	return ortc.RtpCapabilities{
		Codecs: []ortc.RtpCodecCapability{{
			Kind: "audio", MimeType: "audio/opus", PreferredPayloadType: 100, ClockRate: 48000, Channels: 2,
			Parameters: ortc.Parameters{"a": "b"}, RtcpFeedback: []ortc.RtcpFeedback{{Type: "nack", Parameter: "pli"}},
		}},
		HeaderExtensions: []ortc.RtpHeaderExtension{
			{Kind: "audio", URI: ortc.URIMid, PreferredID: 14, PreferredEncrypt: true, Direction: "recvonly"},
		},
	}
}

func TestRtpCapabilitiesRoundTrip(t *testing.T) {
	want := fullCapabilities()
	got, err := toRtpCapabilities(fromRtpCapabilities(want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v, %v\nwant %+v", got, err, want)
	}
}

func TestAbsentFields(t *testing.T) {
	for name, in := range map[string]*workerv1.RtpParameters{
		"nothing": nil,
		"empty":   {},
		"no rtcp": decode(t, `{"codecs":[],"encodings":[]}`, &workerv1.RtpParameters{}),
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := toRtpParameters(in); err != nil || !reflect.DeepEqual(got, ortc.RtpParameters{}) {
				t.Fatalf("got %+v, %v", got, err)
			}
		})
	}
	if got, err := toRtpCapabilities(nil); err != nil || !reflect.DeepEqual(got, ortc.RtpCapabilities{}) {
		t.Fatalf("got %+v, %v", got, err)
	}
	sparse := decode(t, `{"codecs":[{"mimeType":"audio/opus","clockRate":48000}],"headerExtensions":[{"uri":"u"}],"encodings":[{}]}`,
		&workerv1.RtpParameters{})
	if got, err := toRtpParameters(sparse); err != nil || got.Encodings[0] != (ortc.RtpEncodingParameters{}) {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestCodecParameterValues(t *testing.T) {
	for name, row := range map[string]struct {
		value *structpb.Value
		want  ortc.Parameters // nil: refused
	}{
		"number":             {structpb.NewNumberValue(10), ortc.Parameters{"k": int64(10)}},
		"negative number":    {structpb.NewNumberValue(-1), ortc.Parameters{"k": int64(-1)}},
		"largest number":     {structpb.NewNumberValue(1 << 53), ortc.Parameters{"k": int64(1 << 53)}},
		"text":               {structpb.NewStringValue("42e01f"), ortc.Parameters{"k": "42e01f"}},
		"true":               {structpb.NewBoolValue(true), ortc.Parameters{"k": int64(1)}},
		"false":              {structpb.NewBoolValue(false), ortc.Parameters{"k": int64(0)}},
		"null":               {structpb.NewNullValue(), ortc.Parameters{}},
		"fraction":           {structpb.NewNumberValue(1.5), nil},
		"beyond the largest": {structpb.NewNumberValue(1 << 54), nil},
		"not a number":       {structpb.NewNumberValue(math.NaN()), nil},
		"infinite":           {structpb.NewNumberValue(math.Inf(1)), nil},
		"minus infinite":     {structpb.NewNumberValue(math.Inf(-1)), nil},
		"list":               {structpb.NewListValue(&structpb.ListValue{}), nil},
		"object":             {structpb.NewStructValue(&structpb.Struct{}), nil},
		"no kind":            {&structpb.Value{}, nil},
		"nothing":            {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := toParameters(&structpb.Struct{Fields: map[string]*structpb.Value{"k": row.value}})
			if row.want == nil {
				if !errors.Is(err, errs.ErrInvalid) {
					t.Fatalf("got %v, %v", got, err)
				}
				return
			}
			if err != nil || !maps.Equal(got, row.want) {
				t.Fatalf("got %v, %v, want %v", got, err, row.want)
			}
		})
	}
}

func TestHostileRtpParameters(t *testing.T) {
	tooMany := func() *structpb.Struct {
		s := &structpb.Struct{Fields: map[string]*structpb.Value{}}
		for i := range maxListItems + 1 {
			s.Fields[strings.Repeat("k", i)] = structpb.NewNumberValue(1)
		}
		return s
	}
	fraction := func() *structpb.Struct {
		return &structpb.Struct{Fields: map[string]*structpb.Value{"k": structpb.NewNumberValue(0.5)}}
	}
	for name, row := range map[string]struct {
		spoil func(*workerv1.RtpParameters)
		text  string
	}{
		"many codecs": {func(p *workerv1.RtpParameters) { p.Codecs = make([]*workerv1.RtpCodecParameters, 257) }, "list of 257"},
		"many extensions": {func(p *workerv1.RtpParameters) {
			p.HeaderExtensions = make([]*workerv1.RtpHeaderExtensionParameters, 257)
		}, "list of 257"},
		"many encodings":   {func(p *workerv1.RtpParameters) { p.Encodings = make([]*workerv1.RtpEncodingParameters, 257) }, "list of 257"},
		"much feedback":    {func(p *workerv1.RtpParameters) { p.Codecs[0].RtcpFeedback = make([]*workerv1.RtcpFeedback, 257) }, "list of 257"},
		"many parameters":  {func(p *workerv1.RtpParameters) { p.Codecs[0].Parameters = tooMany() }, "257 parameters"},
		"payload type":     {func(p *workerv1.RtpParameters) { p.Codecs[0].PayloadType = 256 + 111 }, "payload type 367"},
		"fraction":         {func(p *workerv1.RtpParameters) { p.Codecs[0].Parameters = fraction() }, "no whole number"},
		"extension id":     {func(p *workerv1.RtpParameters) { p.HeaderExtensions[0].Id = 257 }, "header extension id 257"},
		"extension's":      {func(p *workerv1.RtpParameters) { p.HeaderExtensions[0].Parameters = fraction() }, "no whole number"},
		"encoding's codec": {func(p *workerv1.RtpParameters) { p.Encodings[0].CodecPayloadType = new(uint32(1 << 31)) }, "codec payload type"},
		"ssrc 0":           {func(p *workerv1.RtpParameters) { p.Encodings[0].Ssrc = new(uint32(0)) }, "ssrc 0"},
	} {
		t.Run(name, func(t *testing.T) {
			p := decode(t, chromiumProduce, &workerv1.RtpParameters{})
			row.spoil(p)
			if _, err := toRtpParameters(p); !errors.Is(err, errs.ErrInvalid) || !strings.Contains(err.Error(), row.text) {
				t.Fatalf("got %v, want one with %q", err, row.text)
			}
		})
	}
}

func TestHostileRtpCapabilities(t *testing.T) {
	for name, spoil := range map[string]func(*workerv1.RtpCapabilities){
		"many codecs":     func(c *workerv1.RtpCapabilities) { c.Codecs = make([]*workerv1.RtpCodecCapability, 257) },
		"many extensions": func(c *workerv1.RtpCapabilities) { c.HeaderExtensions = make([]*workerv1.RtpHeaderExtension, 257) },
	} {
		t.Run(name, func(t *testing.T) {
			caps := decode(t, shippedCapabilities, &workerv1.RtpCapabilities{})
			spoil(caps)
			if _, err := toRtpCapabilities(caps); !errors.Is(err, errs.ErrInvalid) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// TestOtherCodecsDoNoHarm lists beside Opus what no router knows, and nonsense: the
// listener gets what it would get without.
func TestOtherCodecsDoNoHarm(t *testing.T) {
	list := func(values ...*structpb.Value) *structpb.Value {
		return structpb.NewListValue(&structpb.ListValue{Values: values})
	}
	odd := &structpb.Struct{Fields: map[string]*structpb.Value{
		"": structpb.NewStringValue("111/111"), "a=b;c": structpb.NewNumberValue(0.5), "list": list(list()), "null": structpb.NewNullValue(),
		"true": structpb.NewBoolValue(true), "line\r\n": structpb.NewStringValue("x\r\na=y"), "nan": structpb.NewNumberValue(math.NaN()),
		"object": structpb.NewStructValue(&structpb.Struct{}), "no kind": {}, strings.Repeat("k", 1000): structpb.NewStringValue(strings.Repeat("v", 1000)),
	}}
	feedback := make([]*workerv1.RtcpFeedback, 300)
	for name, spoil := range map[string]func(*workerv1.RtpCapabilities){
		"RED": func(c *workerv1.RtpCapabilities) {
			red := &workerv1.RtpCodecCapability{Kind: "audio", MimeType: "audio/red", PreferredPayloadType: new(uint32(63)), ClockRate: 48000, Channels: new(uint32(2)), Parameters: odd}
			c.Codecs = append([]*workerv1.RtpCodecCapability{red}, c.Codecs...)
		},
		"nonsense": func(c *workerv1.RtpCapabilities) {
			c.Codecs = append([]*workerv1.RtpCodecCapability{
				{},
				nil,
				{MimeType: "opus"},
				{MimeType: "audio/"},
				{Kind: "smell", MimeType: "x\r\n"},
				{MimeType: strings.Repeat("y", 5000)},
				{MimeType: "video/H264", PreferredPayloadType: new(uint32(4711)), Parameters: odd, RtcpFeedback: feedback},
				{MimeType: "audio/opus", ClockRate: 48000, PreferredPayloadType: new(uint32(100))},
			}, c.Codecs...)
		},
		"a hundred codecs": func(c *workerv1.RtpCapabilities) {
			for i := range 100 {
				c.Codecs = append([]*workerv1.RtpCodecCapability{{Kind: "video", MimeType: "video/x", PreferredPayloadType: new(uint32(i % 5)), ClockRate: 1}}, c.Codecs...)
			}
		},
		"Opus with odd parameters": func(c *workerv1.RtpCapabilities) { c.Codecs[0].Parameters = odd },
		"Opus with odd feedback": func(c *workerv1.RtpCapabilities) {
			c.Codecs[0].RtcpFeedback = append([]*workerv1.RtcpFeedback{nil, {Type: ""}, {Type: "a\r\nb"}, {Type: strings.Repeat("z", 999)}}, c.Codecs[0].RtcpFeedback...)
		},
		"Opus of no kind": func(c *workerv1.RtpCapabilities) {
			c.Codecs[0].Kind, c.Codecs[0].PreferredPayloadType = "smell", new(uint32(200))
		},
		"extensions": func(c *workerv1.RtpCapabilities) {
			c.HeaderExtensions = append([]*workerv1.RtpHeaderExtension{
				nil, {Uri: "x\r\n"}, {Kind: "smell", Uri: ortc.URIMid, PreferredId: 300}, {Uri: ortc.URIMid}, {Uri: "urn:x", PreferredId: 1, Direction: new("up")},
			}, c.HeaderExtensions...)
			for i := range 100 {
				c.HeaderExtensions = append(c.HeaderExtensions, &workerv1.RtpHeaderExtension{Uri: "urn:y", PreferredId: uint32(i)})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			clean := decode(t, shippedCapabilities, &workerv1.RtpCapabilities{})
			want, err := negotiate(decode(t, chromiumProduce, &workerv1.RtpParameters{}), clean)
			if err != nil {
				t.Fatal(err)
			}
			spoil(clean)
			got, err := negotiate(decode(t, chromiumProduce, &workerv1.RtpParameters{}), clean)
			if err != nil || !proto.Equal(got, want) {
				t.Fatalf("got  %v, %v\nwant %v", got, err, want)
			}
		})
	}
}

// TestOtherCodecsOfAProducer lists what is not sent.
func TestOtherCodecsOfAProducer(t *testing.T) {
	caps := decode(t, shippedCapabilities, &workerv1.RtpCapabilities{})
	want, err := negotiate(decode(t, chromiumProduce, &workerv1.RtpParameters{}), caps)
	if err != nil {
		t.Fatal(err)
	}
	red := func() *workerv1.RtpCodecParameters {
		return &workerv1.RtpCodecParameters{MimeType: "audio/red", PayloadType: 63, ClockRate: 48000, Channels: new(uint32(2)), Parameters: &structpb.Struct{
			Fields: map[string]*structpb.Value{"": structpb.NewStringValue("111/111"), "x": structpb.NewNumberValue(0.5)},
		}}
	}
	cn := &workerv1.RtpCodecParameters{MimeType: "audio/CN", PayloadType: 13, ClockRate: 8000}
	for name, row := range map[string]struct {
		spoil func(*workerv1.RtpParameters)
		text  string // of the refusal
	}{
		"RED and comfort noise beside": {func(p *workerv1.RtpParameters) { p.Codecs = append(p.Codecs, red(), cn) }, ""},
		"comfort noise first":          {func(p *workerv1.RtpParameters) { p.Codecs = append([]*workerv1.RtpCodecParameters{cn}, p.Codecs...) }, ""},
		"one number for two": {func(p *workerv1.RtpParameters) {
			p.Codecs = append(p.Codecs, &workerv1.RtpCodecParameters{MimeType: "audio/PCMU", PayloadType: 111, ClockRate: 8000})
		}, ""},
		"Opus is named": {func(p *workerv1.RtpParameters) {
			first := &workerv1.RtpCodecParameters{MimeType: "audio/PCMU", PayloadType: 0, ClockRate: 8000}
			p.Codecs = append([]*workerv1.RtpCodecParameters{first}, p.Codecs...)
			p.Encodings[0].CodecPayloadType = new(uint32(111))
		}, ""},
		"unknown extensions": {func(p *workerv1.RtpParameters) {
			p.HeaderExtensions = append(p.HeaderExtensions,
				&workerv1.RtpHeaderExtensionParameters{Uri: "urn:x y", Id: 1, Encrypt: true}, &workerv1.RtpHeaderExtensionParameters{Uri: "urn:z", Id: 999})
		}, ""},
		"another codec is sent": {func(p *workerv1.RtpParameters) {
			p.Codecs = append([]*workerv1.RtpCodecParameters{{MimeType: "audio/PCMU", PayloadType: 0, ClockRate: 8000}}, p.Codecs...)
		}, "codec audio/PCMU"},
		"comfort noise alone": {func(p *workerv1.RtpParameters) { p.Codecs = []*workerv1.RtpCodecParameters{cn} }, "codec audio/CN"},
		"Opus is malformed":   {func(p *workerv1.RtpParameters) { p.Codecs[0].Parameters = red().GetParameters() }, "no whole number"},
	} {
		t.Run(name, func(t *testing.T) {
			p := decode(t, chromiumProduce, &workerv1.RtpParameters{})
			row.spoil(p)
			got, err := negotiate(p, caps)
			if row.text != "" {
				if err == nil || !strings.Contains(err.Error(), row.text) {
					t.Fatalf("got %v, %v, want %q", got, err, row.text)
				}
				return
			}
			if err != nil || !proto.Equal(got, want) {
				t.Fatalf("got  %v, %v\nwant %v", got, err, want)
			}
		})
	}
}

func TestToDtlsParameters(t *testing.T) {
	in := decode(t, `{"role":"client","fingerprints":[{"algorithm":"sha-256","value":"AB:CD"},{"algorithm":"sha-1","value":"EF"}]}`,
		&workerv1.DtlsParameters{})
	want := rtc.DtlsParameters{
		Role:         "client",
		Fingerprints: []rtc.DtlsFingerprint{{Algorithm: "sha-256", Value: "AB:CD"}, {Algorithm: "sha-1", Value: "EF"}},
	}
	if got, err := toDtlsParameters(in); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v, want %+v", got, err, want)
	}
	if got, err := toDtlsParameters(nil); err != nil || got.Role != "" || got.Fingerprints != nil {
		t.Fatalf("of nothing: got %+v, %v", got, err)
	}
	in.Fingerprints = make([]*workerv1.DtlsFingerprint, 257)
	if _, err := toDtlsParameters(in); !errors.Is(err, errs.ErrInvalid) {
		t.Fatalf("257 fingerprints: got %v", err)
	}
}

func TestFromTransportInfo(t *testing.T) {
	candidate := rtc.IceCandidate{
		Foundation: "udp0", Priority: 2130706431, IP: "192.0.2.1", Address: "192.0.2.1", Protocol: "udp", Port: 12825, Type: "host",
	}
	tcp := candidate
	tcp.Foundation, tcp.Protocol, tcp.TCPType = "tcp0", "tcp", "passive"
	checkJSON(t, fromTransportInfo(rtc.TransportInfo{
		IceParameters: rtc.IceParameters{UsernameFragment: "ufrag", Password: "pwd", IceLite: true},
		IceCandidates: []rtc.IceCandidate{candidate, tcp},
		DtlsParameters: rtc.DtlsParameters{
			Role: "auto", Fingerprints: []rtc.DtlsFingerprint{{Algorithm: "sha-256", Value: "AB:CD"}},
		},
	}), `{"iceParameters":{"usernameFragment":"ufrag","password":"pwd","iceLite":true},
		"iceCandidates":[{"foundation":"udp0","priority":2130706431,"ip":"192.0.2.1","address":"192.0.2.1","protocol":"udp","port":12825,"type":"host"},
		{"foundation":"tcp0","priority":2130706431,"ip":"192.0.2.1","address":"192.0.2.1","protocol":"tcp","port":12825,"type":"host","tcpType":"passive"}],
		"dtlsParameters":{"role":"auto","fingerprints":[{"algorithm":"sha-256","value":"AB:CD"}]}}`)
}

func TestToAnnounced(t *testing.T) {
	in := []*workerv1.AnnouncedAddress{
		{Address: "192.0.2.1", Port: 1},
		{Address: "2001:db8::1", Port: 65535},
		{Address: "::ffff:192.0.2.2", Port: 5},
		{Address: "fe80::1%eth0", Port: 6},
	}
	want := []netip.AddrPort{
		netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("[2001:db8::1]:65535"),
		netip.MustParseAddrPort("192.0.2.2:5"), netip.MustParseAddrPort("[fe80::1]:6"),
	}
	if got, err := toAnnounced(in); err != nil || !slices.Equal(got, want) {
		t.Fatalf("got %v, %v, want %v", got, err, want)
	}
	for name, refused := range map[string][]*workerv1.AnnouncedAddress{
		"nothing":     {nil},
		"host name":   {{Address: "localhost", Port: 1}},
		"no port":     {{Address: "192.0.2.1"}},
		"vast port":   {{Address: "192.0.2.1", Port: 65536}},
		"with a port": {{Address: "192.0.2.1:80", Port: 80}},
		"too many":    make([]*workerv1.AnnouncedAddress, 257),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := toAnnounced(refused); !errors.Is(err, errs.ErrInvalid) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestToFamily(t *testing.T) {
	for in, want := range map[workerv1.AddressFamily]rtc.Family{
		workerv1.AddressFamily_ADDRESS_FAMILY_UNSPECIFIED: rtc.FamilyAny,
		workerv1.AddressFamily_ADDRESS_FAMILY_IPV4:        rtc.FamilyIPv4,
		workerv1.AddressFamily_ADDRESS_FAMILY_IPV6:        rtc.FamilyIPv6,
	} {
		if got, err := toFamily(in); err != nil || got != want {
			t.Errorf("%v: got %v, %v, want %v", in, got, err, want)
		}
	}
	if _, err := toFamily(3); !errors.Is(err, errs.ErrInvalid) {
		t.Errorf("unknown family: got %v", err)
	}
}
