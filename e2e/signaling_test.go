package e2e

import (
	"encoding/json"
	"testing"
)

// Shapes of answers, as clients read them.
type transportParams struct {
	ID             string           `json:"id"`
	IceParameters  iceParameters    `json:"iceParameters"`
	IceCandidates  []iceCandidate   `json:"iceCandidates"`
	DtlsParameters dtlsParameters   `json:"dtlsParameters"`
	IceServers     []map[string]any `json:"iceServers"`
}

type iceParameters struct {
	UsernameFragment string `json:"usernameFragment"`
	Password         string `json:"password"`
	IceLite          bool   `json:"iceLite"`
}

type iceCandidate struct {
	Foundation string `json:"foundation"`
	Priority   uint32 `json:"priority"`
	IP         string `json:"ip"`
	Address    string `json:"address"`
	Protocol   string `json:"protocol"`
	Port       int    `json:"port"`
	Type       string `json:"type"`
	TCPType    string `json:"tcpType"`
}

type dtlsParameters struct {
	Role         string        `json:"role"`
	Fingerprints []fingerprint `json:"fingerprints"`
}

type fingerprint struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"value"`
}

type rtpParameters struct {
	Mid              string         `json:"mid,omitempty"`
	Codecs           []codec        `json:"codecs"`
	HeaderExtensions []extension    `json:"headerExtensions"`
	Encodings        []encoding     `json:"encodings"`
	Rtcp             map[string]any `json:"rtcp"`
}

type codec struct {
	MimeType     string         `json:"mimeType"`
	PayloadType  uint8          `json:"payloadType"`
	ClockRate    uint32         `json:"clockRate"`
	Channels     uint16         `json:"channels"`
	Parameters   map[string]any `json:"parameters"`
	RtcpFeedback []feedback     `json:"rtcpFeedback"`
}

type feedback struct {
	Type      string `json:"type"`
	Parameter string `json:"parameter"`
}

type extension struct {
	URI string `json:"uri"`
	ID  uint8  `json:"id"`
}

type encoding struct {
	SSRC uint32 `json:"ssrc"`
}

type consumerParams struct {
	ID            string        `json:"id"`
	ProducerID    string        `json:"producerId"`
	Kind          string        `json:"kind"`
	RTPParameters rtpParameters `json:"rtpParameters"`
	UserID        string        `json:"userId"`
}

const midExtension = "urn:ietf:params:rtp-hdrext:sdes:mid"

// opusParameters are what a browser sends, with the given SSRC.
func opusParameters(mid string, ssrc uint32) rtpParameters {
	return rtpParameters{
		Mid: mid,
		Codecs: []codec{{
			MimeType: "audio/opus", PayloadType: 111, ClockRate: 48000, Channels: 2,
			Parameters:   map[string]any{"minptime": 10, "useinbandfec": 1},
			RtcpFeedback: []feedback{{Type: "transport-cc"}, {Type: "nack"}},
		}},
		HeaderExtensions: []extension{{URI: midExtension, ID: 4}},
		Encodings:        []encoding{{SSRC: ssrc}},
		Rtcp:             map[string]any{"cname": "e2e", "reducedSize": true},
	}
}

// someFingerprint is of no certificate; it is enough where no media flows.
func someFingerprint() dtlsParameters {
	return dtlsParameters{Role: "client", Fingerprints: []fingerprint{{
		Algorithm: "sha-256",
		Value:     "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF",
	}}}
}

// capabilities fetches the router's capabilities and sends them back as the
// client's own.
func (c *socket) capabilities(t *testing.T) json.RawMessage {
	t.Helper()
	data := c.must(t, "get-rtp-capabilities", nil, "rtp-capabilities").Data
	c.must(t, "client-rtp-capabilities", map[string]any{"rtpCapabilities": data}, "rtp-capabilities-ack")
	return data
}

// must makes a request that has to be answered by the given type.
func (c *socket) must(t *testing.T, kind string, data any, answer string) message {
	t.Helper()
	got := c.request(t, kind, data)
	if got.Type != answer {
		t.Fatalf("%s was answered by %s, want %s", kind, got.raw, answer)
	}
	return got
}

func (c *socket) createTransport(t *testing.T, direction string) transportParams {
	t.Helper()
	var params transportParams
	c.must(t, "create-transport", map[string]any{"type": direction}, "transport-params").decode(t, &params)
	return params
}

// produce makes a producer without media and returns its id.
func (c *socket) produce(t *testing.T, transport, mid string, ssrc uint32) string {
	t.Helper()
	data := map[string]any{"transportId": transport, "kind": "audio", "rtpParameters": opusParameters(mid, ssrc)}
	var got struct{ ID string }
	c.must(t, "produce", data, "producer-id").decode(t, &got)
	return got.ID
}
