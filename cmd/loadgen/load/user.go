package load

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"github.com/dspeak/sfu/internal/errs"
)

const (
	opusPayloadType = 111
	midExtension    = "urn:ietf:params:rtp-hdrext:sdes:mid"
)

// user is one simulated user. Its goroutine owns it.
type user struct {
	name    string
	channel string
	// speaker is nil for a listener.
	speaker *speaker
	// hears is how many speakers the user waits to hear.
	hears int

	run    *run
	signal *signal
	recv   *transport
	seen   map[string]bool
	queue  []string // producers to consume
	pairs  []*pair
}

// join connects the user and returns when it hears everyone that it should.
func (u *user) join(ctx context.Context) error {
	signal, err := dialSignal(ctx, u.run.cfg.URL, u.name, u.channel, u.event)
	if err != nil {
		return err
	}
	u.signal = signal
	stop := context.AfterFunc(ctx, func() { _ = signal.conn.Close() }) // ends a blocked read
	defer stop()
	if err := u.connect(ctx); err != nil {
		return fmt.Errorf("user %s: %w", u.name, err)
	}
	for len(u.pairs) < u.hears {
		if err := u.consumeQueued(); err != nil {
			return fmt.Errorf("user %s: %w", u.name, err)
		}
		if len(u.pairs) == u.hears {
			break
		}
		m, err := signal.next()
		if err == nil {
			err = u.event(m)
		}
		if err != nil {
			return fmt.Errorf("user %s hears %d of %d: %w", u.name, len(u.pairs), u.hears, err)
		}
	}
	return nil
}

func (u *user) connect(ctx context.Context) error {
	if err := u.signal.call("get-rtp-capabilities", "rtp-capabilities", nil, nil); err != nil {
		return err
	}
	if err := u.signal.call("client-rtp-capabilities", "rtp-capabilities-ack", capabilities(), nil); err != nil {
		return err
	}
	if u.speaker != nil {
		send, err := u.openTransport("send")
		if err != nil {
			return err
		}
		if err := send.wait(ctx); err != nil {
			return err
		}
		u.speaker.transport = send
		if err := u.produce(); err != nil {
			return err
		}
	}
	if u.hears == 0 {
		return nil
	}
	recv, err := u.openTransport("recv")
	if err != nil {
		return err
	}
	u.recv = recv
	return recv.wait(ctx)
}

func (u *user) openTransport(direction string) (*transport, error) {
	var params transportParams
	if err := u.signal.call("create-transport", "transport-params", map[string]string{"type": direction}, &params); err != nil {
		return nil, err
	}
	r, err := params.remote()
	if err != nil {
		return nil, err
	}
	local := dtlsParameters{Role: "client", Fingerprints: u.run.fingerprints}
	err = u.signal.call("connect-transport", "transport-connected", map[string]any{"transportId": params.ID, "dtlsParameters": local}, nil)
	if err != nil {
		return nil, err
	}
	return newTransport(u.run.engine, r)
}

func (u *user) produce() error {
	var own struct {
		ID string `json:"id"`
	}
	err := u.signal.call("produce", "producer-id", produceRequest(u.speaker.transport.id, "0", u.name, u.speaker.ssrc), &own)
	u.seen[own.ID] = true // nobody consumes what is its own
	return err
}

// Announced are the producers that a message of that type names in its data. Those of
// currentlyInChannel, which is flat, stand beside them.
func Announced(kind string, data json.RawMessage, flat []string) ([]string, error) {
	switch kind {
	case "currentlyInChannel":
		return flat, nil
	case "available-producers", "new-producer":
	default:
		return nil, nil
	}
	var named struct {
		ProducerID string   `json:"producerId"`
		Producers  []string `json:"producers"`
	}
	if err := json.Unmarshal(data, &named); err != nil {
		return nil, fmt.Errorf("decode %s: %w", kind, err)
	}
	if named.ProducerID != "" {
		named.Producers = append(named.Producers, named.ProducerID)
	}
	return named.Producers, nil
}

// event notes the producers that a message names.
func (u *user) event(m message) error {
	switch m.Type {
	case "transport-closed", "force_disconnect":
		return fmt.Errorf("%s (%s): %w", m.Type, m.Reason, errs.ErrClosed)
	case "error":
		return fmt.Errorf("server error %s: %w", m.Data, errs.ErrInvalid)
	}
	announced, err := Announced(m.Type, m.Data, m.Producers)
	if err != nil {
		return err
	}
	for _, id := range announced {
		if !u.seen[id] {
			u.seen[id] = true
			u.queue = append(u.queue, id)
		}
	}
	return nil
}

// consumeQueued consumes every producer that was announced and is another's.
func (u *user) consumeQueued() error {
	for len(u.queue) > 0 && len(u.pairs) < u.hears {
		id := u.queue[0]
		u.queue = u.queue[1:]
		var params struct {
			UserID        string `json:"userId"`
			RtpParameters struct {
				Encodings []struct {
					SSRC uint32 `json:"ssrc"`
				} `json:"encodings"`
			} `json:"rtpParameters"`
		}
		err := u.signal.call("consume", "consumer-params", map[string]any{"producerId": id, "transportId": u.recv.id}, &params)
		if err != nil {
			return err
		}
		if params.UserID == u.name || len(params.RtpParameters.Encodings) != 1 {
			continue
		}
		s := u.run.speakers[params.UserID]
		if s == nil {
			return fmt.Errorf("speaker %q: %w", params.UserID, errs.ErrNotFound)
		}
		p := newPair(s)
		if err := u.recv.hear(params.RtpParameters.Encodings[0].SSRC, p); err != nil {
			return err
		}
		u.pairs = append(u.pairs, p)
	}
	return nil
}

// stay keeps the signaling socket alive until the context ends, then leaves.
func (u *user) stay(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = u.signal.conn.Close() })
	defer stop()
	for {
		m, err := u.signal.next()
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = u.event(m)
		}
		if err != nil {
			return fmt.Errorf("user %s: %w", u.name, err)
		}
	}
}

// produceRequest is the data of produce, as a browser sends it.
func produceRequest(transport, mid, name string, ssrc uint32) map[string]any {
	return map[string]any{
		"kind": "audio", "transportId": transport,
		"rtpParameters": map[string]any{
			"mid": mid,
			"codecs": []any{map[string]any{
				"mimeType": "audio/opus", "payloadType": opusPayloadType, "clockRate": rtpClock, "channels": 2,
				"parameters":   map[string]any{"minptime": 10, "useinbandfec": 1},
				"rtcpFeedback": []any{},
			}},
			"headerExtensions": []any{},
			"encodings":        []any{map[string]any{"ssrc": ssrc}},
			"rtcp":             map[string]any{"cname": name, "reducedSize": true},
		},
	}
}

// capabilities are those of a browser that receives Opus with the mid extension.
func capabilities() map[string]any {
	return map[string]any{
		"codecs": []any{map[string]any{
			"kind": "audio", "mimeType": "audio/opus", "preferredPayloadType": 100, "clockRate": rtpClock, "channels": 2,
			"parameters": map[string]any{"minptime": 10, "useinbandfec": 1}, "rtcpFeedback": []any{},
		}},
		"headerExtensions": []any{map[string]any{
			"kind": "audio", "uri": midExtension, "preferredId": 1, "preferredEncrypt": false, "direction": "sendrecv",
		}},
	}
}

func newSpeaker(cfg Config, name string) *speaker {
	return &speaker{
		name:           name,
		ssrc:           rand.Uint32() | 1, //nolint:gosec // an SSRC is no secret (RFC 3550 section 8)
		firstTimestamp: rand.Uint32(),     //nolint:gosec // as above
		hearers:        cfg.hearers(),
		step:           uint32(cfg.PacketTime.Microseconds() * rtpClock / 1_000_000),
		sentAt:         makeClock(cfg.packets()),
	}
}
