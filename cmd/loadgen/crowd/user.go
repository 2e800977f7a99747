package crowd

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/dspeak/sfu/cmd/loadgen/load"
)

// user is one user of the crowd.
type user struct {
	run    *run
	number int
	name   string

	// Owned by the goroutine of the phase.
	socket    *socket
	transport string
	produced  int // so far
	link      *load.Link

	// Written by the reader.
	bytes, pictureBytes, pictures, events atomic.Uint64
	shown                                 atomic.Int64 // users and producers of the last picture
	stale                                 atomic.Bool  // an event came after it
	wants                                 atomic.Int64 // producers that it has still to find
	found                                 chan string
	heard                                 atomic.Uint64 // packets
}

// join brings the user in, with all that it does there.
func (u *user) join(ctx context.Context) error {
	cfg := u.run.cfg
	if cfg.listens(u.number) {
		u.wants.Store(int64(cfg.Speakers))
	}
	s, err := u.dial(ctx)
	if err != nil {
		return err
	}
	u.socket = s
	if err := s.awaitGreeting(ctx); err != nil {
		return err
	}
	if !cfg.speaks(u.number) && !cfg.listens(u.number) {
		return nil
	}
	if err := s.ask(ctx, "get-rtp-capabilities", nil, nil); err != nil {
		return err
	}
	if err := s.ask(ctx, "client-rtp-capabilities", u.run.media.Capabilities(), nil); err != nil {
		return err
	}
	if err := u.openTransport(ctx); err != nil {
		return err
	}
	if cfg.speaks(u.number) {
		return u.produce(ctx)
	}
	return u.consume(ctx)
}

// openTransport makes the user's transport and connects it: with real media for
// speakers and those who hear them, else as far as signaling goes.
func (u *user) openTransport(ctx context.Context) error {
	var params json.RawMessage
	if err := u.socket.ask(ctx, "create-transport", nil, &params); err != nil {
		return err
	}
	var named struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(params, &named); err != nil {
		return fmt.Errorf("decode transport-params: %w", err)
	}
	u.transport = named.ID
	connect := map[string]any{"transportId": named.ID, "dtlsParameters": map[string]any{
		"role": "client", "fingerprints": []any{map[string]string{"algorithm": "sha-256", "value": anyFingerprint()}},
	}}
	if u.isReal() {
		connect = u.run.media.ConnectRequest(named.ID)
	}
	if err := u.socket.ask(ctx, "connect-transport", connect, nil); err != nil {
		return err
	}
	if !u.isReal() {
		return nil
	}
	link, err := u.run.media.Open(params, false, watch{u})
	if err != nil {
		return err
	}
	u.link = link
	return link.Wait(ctx)
}

// isReal reports whether the user has real media.
func (u *user) isReal() bool {
	return u.run.cfg.Hear > 0 && (u.number < u.run.cfg.Speakers || u.run.cfg.hears(u.number))
}

// anyFingerprint is that of a certificate that nobody has.
func anyFingerprint() string {
	var digest [32]byte
	for i := range digest {
		digest[i] = byte(rand.Uint32()) //nolint:gosec // a stand-in
	}
	var pairs []string
	for _, b := range digest {
		pairs = append(pairs, strings.ToUpper(hex.EncodeToString([]byte{b})))
	}
	return strings.Join(pairs, ":")
}

// produce makes the user's next producer, as a browser does: with a mid and an SSRC that
// the transport has not had.
func (u *user) produce(ctx context.Context) error {
	mid, ssrc := strconv.Itoa(u.produced), rand.Uint32()|1 //nolint:gosec // an SSRC is no secret
	u.produced++
	err := u.socket.ask(ctx, "produce", u.run.media.ProduceRequest(u.transport, mid, u.name, ssrc), nil)
	if err == nil && u.link != nil {
		u.run.mu.Lock()
		u.run.speaking[u] = ssrc
		u.run.mu.Unlock()
	}
	return err
}

// sawProducers takes the producers of a picture, for one who is still to consume them.
func (u *user) sawProducers(text []byte) error {
	var picture struct {
		Producers []string `json:"producers"`
	}
	if err := json.Unmarshal(text, &picture); err != nil {
		return fmt.Errorf("decode picture: %w", err)
	}
	if len(picture.Producers) < u.run.cfg.Speakers {
		return nil
	}
	u.wants.Store(0)
	for _, id := range picture.Producers {
		u.found <- id
	}
	return nil
}

// consume waits for the speakers and consumes all of them.
func (u *user) consume(ctx context.Context) error {
	for range u.run.cfg.Speakers {
		select {
		case id := <-u.found:
			var params struct {
				RtpParameters struct {
					Encodings []struct {
						SSRC uint32 `json:"ssrc"`
					} `json:"encodings"`
				} `json:"rtpParameters"`
			}
			if err := u.socket.ask(ctx, "consume", map[string]string{"producerId": id, "transportId": u.transport}, &params); err != nil {
				return err
			}
			if u.link != nil && len(params.RtpParameters.Encodings) == 1 {
				if err := u.link.Hear(params.RtpParameters.Encodings[0].SSRC); err != nil {
					return err
				}
			}
		case <-u.socket.ended:
			return u.socket.err
		case <-ctx.Done():
			return fmt.Errorf("speakers not seen: %w", ctx.Err())
		}
	}
	return nil
}

// sees reports whether the user's last picture shows so many users and producers.
func (u *user) sees(users, producers int) bool {
	return !u.stale.Load() && u.shown.Load() == int64(users)<<32|int64(producers)
}

// watch counts what a user hears.
type watch struct{ user *user }

func (w watch) RTP(_ []byte, authentic bool, _ int64) {
	if authentic {
		w.user.heard.Add(1)
	}
}

func (watch) RTCP([]byte, uint32, bool) {}

func (watch) DTLS([]byte) {}
