package handshake

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/elliptic"
	"github.com/pion/logging"

	"github.com/dspeak/sfu/internal/errs"
)

// exporterLabel is the label of the SRTP keys (RFC 5764 section 4.2).
const exporterLabel = "EXTRACTOR-dtls_srtp"

// run does one handshake. The library's goroutines end with it.
func (p *Pool) run(ctx context.Context, h *Handshake) Result {
	conn := newFedConn(h.in, h.params)
	var refused error // set by the callback, read when the handshake is over
	check := func(certs [][]byte, _ [][]*x509.Certificate) error {
		if len(certs) == 0 || !matchesAny(certs[0], h.remote) {
			refused = fmt.Errorf("dtls: the peer's certificate has no announced fingerprint: %w", errs.ErrDenied)
		}
		return refused
	}
	session, err := p.open(conn, h.params.Role, check)
	if err != nil {
		return Result{Err: fmt.Errorf("dtls: %w", err)}
	}
	err = session.HandshakeContext(ctx)
	conn.mute()
	// Muted, it only ends the library's goroutines.
	defer func() { _ = session.Close() }()
	switch {
	case refused != nil:
		return Result{Err: refused}
	case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return Result{Err: fmt.Errorf("dtls: no end of the handshake within %v: %w", p.cfg.Timeout, errs.ErrUnavailable)}
	case err != nil:
		return Result{Err: fmt.Errorf("dtls: %w", err)}
	}
	result, err := harvest(session, h.params.Role)
	if err != nil {
		return Result{Err: fmt.Errorf("dtls: %w", err)}
	}
	result.LastFlight = conn.lastFlight()
	return result
}

// open prepares the library's connection as browsers expect it.
func (p *Pool) open(
	conn *fedConn, role Role, check func([][]byte, [][]*x509.Certificate) error,
) (*dtls.Conn, error) {
	shared := []dtls.Option{
		dtls.WithCertificates(p.cfg.Certificate),
		// Preferred first: as server our order decides.
		dtls.WithSRTPProtectionProfiles(
			dtls.SRTPProtectionProfile(AEADAES128GCM), dtls.SRTPProtectionProfile(AES128CMHMACSHA180)),
		dtls.WithExtendedMasterSecret(dtls.RequestExtendedMasterSecret),
		// Certificates are self-signed: the fingerprint from the signaling counts.
		dtls.WithInsecureSkipVerify(true),
		dtls.WithVerifyPeerCertificate(check),
		dtls.WithMTU(p.cfg.MTU - recordHeader - fragmentHeader), // the library counts payload
		dtls.WithFlightInterval(p.cfg.FlightInterval),
		dtls.WithLoggerFactory(silent{}),
	}
	if role == Client {
		options := make([]dtls.ClientOption, 0, len(shared))
		for _, o := range shared {
			options = append(options, o)
		}
		options = append(options, dtls.WithEllipticCurves(elliptic.X25519, elliptic.P256, elliptic.P384))
		return dtls.ClientWithOptions(conn, peerAddr{}, options...)
	}
	options := []dtls.ServerOption{
		dtls.WithClientAuth(dtls.RequireAnyClientCert),
		// ICE has shown already that the peer is where it says.
		dtls.WithInsecureSkipVerifyHello(true),
		// Every WebRTC endpoint has P-256 (RFC 8827 section 6.5), and it costs half of
		// X25519 (BenchmarkPublicKeyWork). The library would follow the client's order.
		dtls.WithEllipticCurves(elliptic.P256, elliptic.P384),
	}
	for _, o := range shared {
		options = append(options, o)
	}
	return dtls.ServerWithOptions(conn, peerAddr{}, options...)
}

// silent logs nothing: what matters is in the Result. The library's own silent logger
// costs fifty allocations a handshake.
type silent struct{}

func (silent) NewLogger(string) logging.LeveledLogger { return silent{} }
func (silent) Trace(string)                           {}
func (silent) Tracef(string, ...any)                  {}
func (silent) Debug(string)                           {}
func (silent) Debugf(string, ...any)                  {}
func (silent) Info(string)                            {}
func (silent) Infof(string, ...any)                   {}
func (silent) Warn(string)                            {}
func (silent) Warnf(string, ...any)                   {}
func (silent) Error(string)                           {}
func (silent) Errorf(string, ...any)                  {}

// harvest takes keys and state out of a finished session.
func harvest(session *dtls.Conn, role Role) (Result, error) {
	state, ok := session.ConnectionState()
	if !ok {
		return Result{}, fmt.Errorf("no state after the handshake: %w", errs.ErrClosed)
	}
	negotiated, _ := session.SelectedSRTPProtectionProfile()
	profile := Profile(negotiated)
	keyLen, saltLen := profile.lengths()
	if keyLen == 0 {
		return Result{}, fmt.Errorf("no SRTP profile negotiated: %w", errs.ErrUnsupported)
	}
	const sides = 2
	material, err := state.ExportKeyingMaterial(exporterLabel, nil, sides*(keyLen+saltLen))
	if err != nil {
		return Result{}, fmt.Errorf("export SRTP keys: %w", err)
	}
	state.PeerCertificates = nil // half of it, and of no use for an alert
	serialised, err := state.MarshalBinary()
	if err != nil {
		return Result{}, fmt.Errorf("serialise state: %w", err)
	}
	next := func(n int) []byte {
		part := material[:n:n]
		material = material[n:]
		return part
	}
	// RFC 5764 section 4.2: client key, server key, client salt, server salt.
	clientKey, serverKey := next(keyLen), next(keyLen)
	clientSalt, serverSalt := next(saltLen), next(saltLen)
	// The library's buffer has grown by doubling; what is kept for hours shall not.
	r := Result{Profile: profile, State: bytes.Clone(serialised)}
	if role == Client {
		r.LocalKey, r.LocalSalt, r.RemoteKey, r.RemoteSalt = clientKey, clientSalt, serverKey, serverSalt
	} else {
		r.LocalKey, r.LocalSalt, r.RemoteKey, r.RemoteSalt = serverKey, serverSalt, clientKey, clientSalt
	}
	return r, nil
}
