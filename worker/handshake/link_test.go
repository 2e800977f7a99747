package handshake

import (
	"bytes"
	"context"
	"crypto/tls"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// waitLimit is how long a test waits for what must happen.
const waitLimit = 20 * time.Second

func newCert(tb testing.TB) (tls.Certificate, []Fingerprint) {
	tb.Helper()
	cert, prints, err := NewCertificate()
	if err != nil {
		tb.Fatal(err)
	}
	return cert, prints
}

func newPool(tb testing.TB, cfg Config) *Pool {
	tb.Helper()
	if len(cfg.Certificate.Certificate) == 0 {
		cfg.Certificate, _ = newCert(tb)
	}
	p, err := NewPool(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.Close)
	return p
}

// link is a handshake under test with a pion connection at the other end.
type link struct {
	tb      testing.TB
	h       *Handshake
	results chan Result
	peer    *dtls.Conn
	peerIn  chan []byte

	mu     sync.Mutex
	sent   [][]byte // by us
	gotten [][]byte // from the peer
	// toPeer and toUs may change, drop or multiply datagrams.
	toPeer, toUs func([]byte) [][]byte
}

// setup says what is special about a link.
type setup struct {
	role     Role
	cert     tls.Certificate              // the peer's; none: a new one
	profiles []dtls.SRTPProtectionProfile // nil: both, in the order we do not prefer
	noSRTP   bool
	noCert   bool
	prints   []Fingerprint // announced by the peer; nil: the true ones
	mtu      int
	flight   time.Duration
	hold     bool
	hello    dtls.ClientOption
	toPeer   func([]byte) [][]byte
	toUs     func([]byte) [][]byte
}

func asIs(b []byte) [][]byte { return [][]byte{b} }

// newLink starts the handshake under test and prepares the peer.
func newLink(tb testing.TB, p *Pool, s setup) *link {
	tb.Helper()
	cert, prints := s.cert, []Fingerprint(nil)
	if cert.Certificate == nil {
		cert, prints = newCert(tb)
	}
	if s.prints == nil {
		s.prints = prints
	}
	l := &link{tb: tb, results: make(chan Result, 2), peerIn: make(chan []byte, 1000), toPeer: s.toPeer, toUs: s.toUs}
	if l.toPeer == nil {
		l.toPeer = asIs
	}
	if l.toUs == nil {
		l.toUs = asIs
	}
	peerConn := newFedConn(l.peerIn, Params{Send: l.receive})
	var err error
	if s.role == Client {
		l.peer, err = dtls.ServerWithOptions(peerConn, peerAddr{}, append(serverOptions(peerOptions(cert, s)),
			dtls.WithClientAuth(dtls.RequireAnyClientCert))...)
	} else {
		options := clientOptions(peerOptions(cert, s))
		if s.hello != nil {
			options = append(options, s.hello)
		}
		l.peer, err = dtls.ClientWithOptions(peerConn, peerAddr{}, options...)
	}
	if err != nil {
		tb.Fatal(err)
	}
	l.h, err = p.Start(Params{
		Role: s.role, Remote: s.prints, Send: l.send, HoldLast: s.hold,
		Done: func(r Result) { l.results <- r },
	})
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func peerOptions(cert tls.Certificate, s setup) []dtls.Option {
	options := []dtls.Option{dtls.WithInsecureSkipVerify(true), dtls.WithLoggerFactory(silent{})}
	if !s.noCert {
		options = append(options, dtls.WithCertificates(cert))
	}
	if s.profiles == nil {
		s.profiles = []dtls.SRTPProtectionProfile{dtls.SRTP_AES128_CM_HMAC_SHA1_80, dtls.SRTP_AEAD_AES_128_GCM}
	}
	if !s.noSRTP {
		options = append(options, dtls.WithSRTPProtectionProfiles(s.profiles...))
	}
	if s.mtu > 0 {
		options = append(options, dtls.WithMTU(s.mtu))
	}
	if s.flight > 0 {
		options = append(options, dtls.WithFlightInterval(s.flight))
	}
	return options
}

func clientOptions(shared []dtls.Option) (out []dtls.ClientOption) {
	for _, o := range shared {
		out = append(out, o)
	}
	return out
}

func serverOptions(shared []dtls.Option) (out []dtls.ServerOption) {
	for _, o := range shared {
		out = append(out, o)
	}
	return out
}

// send is how our datagrams go to the peer.
func (l *link) send(b []byte) {
	l.mu.Lock()
	l.sent = append(l.sent, bytes.Clone(b))
	l.mu.Unlock()
	for _, p := range l.toPeer(bytes.Clone(b)) {
		l.peerIn <- p
	}
}

// receive is how the peer's datagrams come to us.
func (l *link) receive(b []byte) {
	l.mu.Lock()
	l.gotten = append(l.gotten, bytes.Clone(b))
	l.mu.Unlock()
	for _, p := range l.toUs(bytes.Clone(b)) {
		l.h.Feed(p)
	}
}

func (l *link) ours() [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent
}

func (l *link) theirs() [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gotten
}

// finish runs the peer's side to its end and returns our result.
func (l *link) finish() (Result, error) {
	l.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	peerErr := l.peer.HandshakeContext(ctx)
	select {
	case r := <-l.results:
		return r, peerErr
	case <-ctx.Done():
		l.tb.Fatalf("no result; the peer says %v", peerErr)
		return Result{}, nil
	}
}

// mustFinish is finish for handshakes that have to succeed.
func (l *link) mustFinish() Result {
	l.tb.Helper()
	r, peerErr := l.finish()
	if r.Err != nil || peerErr != nil {
		l.tb.Fatalf("handshake: %v; the peer says %v", r.Err, peerErr)
	}
	return r
}

// close ends the peer; its close_notify comes to us like everything else.
func (l *link) close() { _ = l.peer.Close() }
