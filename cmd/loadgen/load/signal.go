package load

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/gorilla/websocket"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/worker/handshake"
)

const writeTimeout = 10 * time.Second

// message is any message of the signaling socket.
type message struct {
	Type      string          `json:"type"`
	RequestID string          `json:"requestId,omitempty"`
	Data      json.RawMessage `json:"data,omitempty"`
	// Of currentlyInChannel, which is flat.
	Producers []string `json:"producers,omitempty"`
	// Of transport-closed and force_disconnect.
	Reason string `json:"reason,omitempty"`
}

// signal is a user's signaling socket. One goroutine uses it.
type signal struct {
	conn *websocket.Conn
	last int
	// onEvent gets every message that is not an answer to the current request.
	onEvent func(message) error
	sent    uint64
	read    uint64
}

func dialSignal(ctx context.Context, base, user, channel string, onEvent func(message) error) (*signal, error) {
	query := url.Values{"auth": {user}, "channelId": {channel}}
	conn, resp, err := websocket.DefaultDialer.DialContext(ctx, base+"?"+query.Encode(), nil)
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close() // the dialer has read what there is
	}
	if err != nil {
		return nil, fmt.Errorf("dial signaling as %s: %w", user, err)
	}
	conn.SetReadLimit(8 << 20)
	return &signal{conn: conn, onEvent: onEvent}, nil
}

func (s *signal) write(m any) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("set write deadline: %w", err)
	}
	if err := s.conn.WriteJSON(m); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	s.sent++
	return nil
}

// next reads one message; the server's pings are answered on the way.
func (s *signal) next() (message, error) {
	for {
		var m message
		if err := s.conn.ReadJSON(&m); err != nil {
			return message{}, fmt.Errorf("read: %w", err)
		}
		s.read++
		if m.Type != "ping" {
			return m, nil
		}
		if err := s.write(map[string]string{"type": "pong"}); err != nil {
			return message{}, err
		}
	}
}

// call sends a request and decodes the data of the answer of the wanted type.
// Other messages that come first go to onEvent.
func (s *signal) call(request, answer string, data, into any) error {
	s.last++
	id := strconv.Itoa(s.last)
	if err := s.write(map[string]any{"type": request, "requestId": id, "data": data}); err != nil {
		return err
	}
	for {
		m, err := s.next()
		if err != nil {
			return fmt.Errorf("await %s: %w", answer, err)
		}
		switch {
		case m.Type == answer && m.RequestID == id:
			if into == nil {
				return nil
			}
			if err := json.Unmarshal(m.Data, into); err != nil {
				return fmt.Errorf("decode %s: %w", answer, err)
			}
			return nil
		case m.Type == "error" && m.RequestID == id:
			return fmt.Errorf("%s refused: %s: %w", request, m.Data, errs.ErrDenied)
		}
		if err := s.onEvent(m); err != nil {
			return err
		}
	}
}

// transportParams is the data of transport-params.
type transportParams struct {
	ID            string `json:"id"`
	IceParameters struct {
		UsernameFragment string `json:"usernameFragment"`
		Password         string `json:"password"`
	} `json:"iceParameters"`
	IceCandidates []struct {
		Address  string `json:"address"`
		Port     uint16 `json:"port"`
		Protocol string `json:"protocol"`
		Priority uint32 `json:"priority"`
	} `json:"iceCandidates"`
	DtlsParameters dtlsParameters `json:"dtlsParameters"`
}

type dtlsParameters struct {
	Role         string        `json:"role"`
	Fingerprints []fingerprint `json:"fingerprints"`
}

type fingerprint struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"value"`
}

// remote picks the UDP candidate to use.
func (p transportParams) remote() (remote, error) { return p.pick("udp") }

// pick picks a candidate of the protocol: loopback first, so that a test on one
// machine stays on it, then by priority.
func (p transportParams) pick(protocol string) (remote, error) {
	r := remote{id: p.ID, ufrag: p.IceParameters.UsernameFragment, password: p.IceParameters.Password, tcp: protocol == "tcp"}
	var best uint64
	for _, c := range p.IceCandidates {
		addr, err := netip.ParseAddr(c.Address)
		if err != nil || c.Protocol != protocol {
			continue
		}
		rank := uint64(c.Priority) + 1
		if addr.IsLoopback() {
			rank += 1 << 32
		}
		if rank > best {
			best, r.address = rank, netip.AddrPortFrom(addr, c.Port)
		}
	}
	if best == 0 {
		return remote{}, fmt.Errorf("transport %s: %s candidate: %w", p.ID, protocol, errs.ErrNotFound)
	}
	for _, f := range p.DtlsParameters.Fingerprints {
		r.fingerprints = append(r.fingerprints, handshake.Fingerprint{Algorithm: f.Algorithm, Value: f.Value})
	}
	return r, nil
}
