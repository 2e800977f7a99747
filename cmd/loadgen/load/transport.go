package load

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/pion/stun/v4"
	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/worker/handshake"
)

const (
	// firstCheckEvery is the pace of checks before the first answer (RFC 8445
	// section 14.2 allows 50 ms and more; a server under load is given more).
	firstCheckEvery = 250 * time.Millisecond
	// consentEvery is the pace of consent checks (RFC 7675 section 5.1).
	consentEvery = 5 * time.Second
	// iceLocalPreference is that of the only candidate (RFC 8445 section 5.1.2.1).
	icePriority = 126<<24 | 65535<<8 | 255
	// hmacTag is the length of HMAC-SHA1-80's tag (RFC 3711 section 5.2).
	hmacTag = 10
)

// transport is the client side of one WebRTC transport: a UDP socket connected
// to the server's candidate. The engine reads from it; see the field groups for
// who writes.
type transport struct {
	id     string
	engine *engine
	fd     int
	// floor marks a receiver of the bare sending loop: it has nothing but fd.
	floor bool
	// stream is nil unless fd is a TCP connection.
	stream *stream
	// watch gets what arrives instead of the counts of a load; nil: nobody does.
	watch Watch
	// leaving asks the engine to end the transport, which closes gone.
	leaving atomic.Bool
	gone    chan struct{}

	// Set before the engine knows the transport, then constant.
	username string // "remote:local"
	password string
	tie      uint64

	// Written by the engine.
	validated bool
	handshake *handshake.Handshake
	header    rtp.Header

	// done is closed once, with err and the contexts set before.
	done     chan struct{}
	err      error
	state    []byte        // that of DTLS, for the farewell
	outgoing *srtp.Context // used after done by the pacer if a speaker's, else by the engine
	incoming *srtp.Context // used by the engine after done
	trailer  int           // bytes after the index of an SRTCP packet

	start handshakeStart
	// pairs maps a consumer's SSRC to what it carries; replaced whole by user
	// goroutines (one a transport), read by the engine.
	pairs atomic.Pointer[map[uint32]*pair]
}

// handshakeStart makes the DTLS handshake once the first check was answered.
type handshakeStart func() (*handshake.Handshake, error)

// remote is what transport-params told about the server's side.
type remote struct {
	id           string
	ufrag        string
	password     string
	address      netip.AddrPort
	tcp          bool // address is that of a TCP candidate
	fingerprints []handshake.Fingerprint
}

// newTransport opens the socket and hands it to the engine, which begins to check.
func newTransport(e *engine, r remote) (*transport, error) {
	return openTransport(e, r, nil)
}

// openTransport is newTransport whose packets go to the watch, unless that is nil.
func openTransport(e *engine, r remote, watch Watch) (*transport, error) {
	dial := dialUDP
	if r.tcp {
		dial = dialTCP
	}
	fd, err := dial(r.address)
	if err != nil {
		return nil, err
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	t := &transport{
		id: r.id, engine: e, fd: fd,
		username: r.ufrag + ":" + hex.EncodeToString(random[:4]),
		password: r.password,
		tie:      binary.BigEndian.Uint64(random[8:]),
		done:     make(chan struct{}),
		gone:     make(chan struct{}),
		watch:    watch,
	}
	if r.tcp {
		t.stream = newStream(r.address)
	}
	t.pairs.Store(&map[uint32]*pair{})
	t.start = func() (*handshake.Handshake, error) {
		return e.dtls.Start(handshake.Params{
			Role: handshake.Client, Remote: r.fingerprints, Send: t.write, Done: t.connected,
		})
	}
	if err := e.add(t); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return t, nil
}

// write sends one datagram. A full socket buffer loses it, as a network would.
func (t *transport) write(datagram []byte) {
	if t.stream != nil {
		t.writeFrame(datagram)
		return
	}
	if _, err := unix.Write(t.fd, datagram); err != nil {
		t.engine.writeErrors.Add(1)
	}
}

// check sends a binding request that nominates at once (RFC 8445 section 7.1.1).
func (t *transport) check() {
	if m := t.checkMessage(); m != nil {
		t.write(m)
	}
}

func (t *transport) checkMessage() []byte {
	m, err := stun.Build(stun.BindingRequest, stun.TransactionID,
		stun.NewUsername(t.username), ice.AttrControlling(t.tie), ice.PriorityAttr(icePriority), ice.UseCandidate(),
		stun.NewShortTermIntegrity(t.password), stun.Fingerprint)
	if err != nil {
		t.engine.writeErrors.Add(1)
		return nil
	}
	return m.Raw
}

// answered handles a STUN message from the server.
func (t *transport) answered(datagram []byte) {
	m := &stun.Message{Raw: append([]byte(nil), datagram...)}
	if m.Decode() != nil || m.Type != stun.BindingSuccess || stun.NewShortTermIntegrity(t.password).Check(m) != nil {
		t.engine.malformed++
		return
	}
	if t.validated {
		return
	}
	t.validated = true
	h, err := t.start()
	if err != nil {
		t.connected(handshake.Result{Err: err})
		return
	}
	t.handshake = h
}

// connected is the end of the handshake, on its goroutine.
func (t *transport) connected(r handshake.Result) {
	t.err = r.Err
	if r.Err == nil {
		t.state = r.State
		if r.Profile != handshake.AEADAES128GCM {
			t.trailer = hmacTag
		}
		t.outgoing, t.incoming, t.err = contexts(r)
	}
	close(t.done)
}

func contexts(r handshake.Result) (outgoing, incoming *srtp.Context, err error) {
	profile := srtp.ProtectionProfileAeadAes128Gcm
	if r.Profile != handshake.AEADAES128GCM {
		profile = srtp.ProtectionProfileAes128CmHmacSha1_80
	}
	outgoing, err = srtp.CreateContext(r.LocalKey, r.LocalSalt, profile)
	if err != nil {
		return nil, nil, fmt.Errorf("outgoing SRTP context: %w", err)
	}
	incoming, err = srtp.CreateContext(r.RemoteKey, r.RemoteSalt, profile)
	if err != nil {
		return nil, nil, fmt.Errorf("incoming SRTP context: %w", err)
	}
	return outgoing, incoming, nil
}

// connectedNow says whether DTLS is connected and the contexts are set.
func (t *transport) connectedNow() bool {
	select {
	case <-t.done:
		return t.err == nil
	default:
		return false
	}
}

// wait returns when DTLS is connected or failed.
func (t *transport) wait(ctx context.Context) error {
	select {
	case <-t.done:
	case <-ctx.Done():
		return fmt.Errorf("transport %s: no connection: %w", t.id, ctx.Err())
	}
	if t.err != nil {
		return fmt.Errorf("transport %s: %w", t.id, t.err)
	}
	return nil
}

// hear registers a consumer of the transport. Only the user's own goroutine calls it.
func (t *transport) hear(ssrc uint32, p *pair) error {
	old := *t.pairs.Load()
	if _, ok := old[ssrc]; ok {
		return fmt.Errorf("consumer SSRC %d on transport %s: %w", ssrc, t.id, errs.ErrExists)
	}
	grown := make(map[uint32]*pair, len(old)+1)
	maps.Copy(grown, old)
	grown[ssrc] = p
	t.pairs.Store(&grown)
	return nil
}
