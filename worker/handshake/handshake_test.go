package handshake

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/protocol/extension"
	pion "github.com/pion/dtls/v3/pkg/protocol/handshake"

	"github.com/dspeak/sfu/internal/errs"
)

// checkKeys compares our keys with what the peer exports.
func checkKeys(t *testing.T, l *link, role Role, r Result) {
	t.Helper()
	state, ok := l.peer.ConnectionState()
	if !ok {
		t.Fatal("the peer has no state")
	}
	keyLen, saltLen := r.Profile.lengths()
	material, err := state.ExportKeyingMaterial(exporterLabel, nil, 2*(keyLen+saltLen))
	if err != nil {
		t.Fatal(err)
	}
	ours := [][]byte{r.LocalKey, r.RemoteKey, r.LocalSalt, r.RemoteSalt}
	if role == Server {
		ours = [][]byte{r.RemoteKey, r.LocalKey, r.RemoteSalt, r.LocalSalt}
	}
	if got := slices.Concat(ours...); !bytes.Equal(got, material) {
		t.Errorf("keys %x\n want %x", got, material)
	}
	if len(r.LocalKey) != keyLen || len(r.LocalSalt) != saltLen {
		t.Errorf("key of %d and salt of %d bytes", len(r.LocalKey), len(r.LocalSalt))
	}
}

func TestBothRolesAndProfiles(t *testing.T) {
	gcm, cm := dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80
	for _, role := range []Role{Server, Client} {
		for _, tc := range []struct {
			name     string
			profiles []dtls.SRTPProtectionProfile
			want     Profile
		}{
			{"peer knows AES-CM only", []dtls.SRTPProtectionProfile{cm}, AES128CMHMACSHA180},
			{"peer knows AES-GCM only", []dtls.SRTPProtectionProfile{gcm}, AEADAES128GCM},
			{"peer prefers AES-GCM", []dtls.SRTPProtectionProfile{gcm, cm}, AEADAES128GCM},
		} {
			t.Run(fmt.Sprintf("role %d, %s", role, tc.name), func(t *testing.T) {
				l := newLink(t, newPool(t, Config{}), setup{role: role, profiles: tc.profiles})
				defer l.close()
				r := l.mustFinish()
				if r.Profile != tc.want {
					t.Errorf("profile %v, want %v", r.Profile, tc.want)
				}
				checkKeys(t, l, role, r)
				if (len(r.LastFlight) > 0) != (role == Server) || len(r.State) == 0 {
					t.Errorf("%d datagrams of a last flight, state of %d bytes", len(r.LastFlight), len(r.State))
				}
			})
		}
	}
}

func TestServerPrefersGCMWhateverTheClientPrefers(t *testing.T) {
	l := newLink(t, newPool(t, Config{}), setup{role: Server}) // the peer puts AES-CM first
	defer l.close()
	if r := l.mustFinish(); r.Profile != AEADAES128GCM {
		t.Errorf("profile %v", r.Profile)
	}
}

func TestRefusals(t *testing.T) {
	_, foreign := newCert(t)
	for _, role := range []Role{Server, Client} {
		for _, tc := range []struct {
			name  string
			setup setup
			want  error
		}{
			{"another certificate than announced", setup{prints: foreign}, errs.ErrDenied},
			{"no SRTP offered", setup{noSRTP: true}, nil},
			{"a profile we lack", setup{profiles: []dtls.SRTPProtectionProfile{dtls.SRTP_NULL_HMAC_SHA1_80}}, nil},
			{"no certificate", setup{noCert: true}, nil},
		} {
			t.Run(fmt.Sprintf("role %d, %s", role, tc.name), func(t *testing.T) {
				if role == Client && tc.setup.noCert {
					t.Skip("a server always has one")
				}
				p := newPool(t, Config{Timeout: time.Second})
				tc.setup.role = role
				l := newLink(t, p, tc.setup)
				defer l.close()
				r, peerErr := l.finish()
				if r.Err == nil || (tc.want != nil && !errors.Is(r.Err, tc.want)) {
					t.Errorf("result %v, want %v; the peer says %v", r.Err, tc.want, peerErr)
				}
				// A refusing server says so in a plaintext alert only, which we ignore.
				if tookTimeout := errors.Is(r.Err, errs.ErrUnavailable); tookTimeout && role == Server {
					t.Errorf("the refusal took a timeout: %v", r.Err)
				}
				if r.LocalKey != nil || r.State != nil || r.LastFlight != nil {
					t.Error("a failed handshake has results")
				}
			})
		}
	}
}

func TestNoSRTPIsUnsupported(t *testing.T) {
	l := newLink(t, newPool(t, Config{}), setup{role: Server, noSRTP: true})
	defer l.close()
	if r, _ := l.finish(); !errors.Is(r.Err, errs.ErrUnsupported) {
		t.Errorf("%v", r.Err)
	}
}

// Nothing of our clean-up may reach the peer, or it would take the transport for closed.
func TestNoAlertIsSentAfterSuccess(t *testing.T) {
	for _, role := range []Role{Server, Client} {
		p := newPool(t, Config{})
		l := newLink(t, p, setup{role: role})
		l.mustFinish()
		p.Close() // all goroutines are gone
		for i, b := range l.ours() {
			if holds(b, typeAlert, 0) || holds(b, typeAlert, 1) {
				t.Errorf("role %d: datagram %d holds an alert", role, i)
			}
		}
		l.close()
	}
}

// strays are datagrams that anybody may send from the peer's address.
func strays() [][]byte {
	random := make([]byte, 200)
	_, _ = rand.Read(random)
	random[0] = typeHandshake // classified as DTLS (RFC 7983)
	body := func(kind byte, epoch byte, seq byte, body ...byte) []byte {
		return append([]byte{kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, seq, 0, byte(len(body))}, body...)
	}
	return [][]byte{
		nil,
		{},
		{typeHandshake},
		random,
		body(typeAlert, 0, 200, 2, 40), // a plaintext fatal alert
		body(typeAlert, 0, 201, 1, 0),  // a plaintext close_notify
		body(typeAlert, 0, 202, 2),
		body(typeApplicationData, 0, 203, 1, 2, 3),
		body(typeApplicationData, 1, 204, 1, 2, 3),
		body(typeAlert, 1, 205, random[:26]...),
		body(typeHandshake, 1, 206, random[:60]...),
		body(typeHandshake, 0, 207, 0xff, 0, 0, 1),
		body(typeHandshake, 0, 208, random[:100]...),
		body(typeHandshake, 7, 209, random[:60]...),
		body(typeChangeCipherSpec, 1, 210, 1),
		body(25, 0, 211, random[:60]...), // connection ID
		body(99, 0, 212, 1),
		bytes.Repeat([]byte{typeHandshake}, maxDatagram+1),
	}
}

func TestStrayDatagramsDisturbNothing(t *testing.T) {
	for _, role := range []Role{Server, Client} {
		t.Run(fmt.Sprint(role), func(t *testing.T) {
			l := newLink(t, newPool(t, Config{}), setup{role: role, toUs: func(b []byte) [][]byte {
				return append(strays(), b)
			}})
			defer l.close()
			checkKeys(t, l, role, l.mustFinish())
		})
	}
}

// bigHello puts so much into a ClientHello that it needs several records.
func bigHello(m pion.MessageClientHello) pion.Message {
	for i := range 30 {
		m.Extensions = append(m.Extensions, &extension.ServerName{
			ServerName: fmt.Sprintf("%s%d.example", bytes.Repeat([]byte("x"), 50), i),
		})
	}
	return &m
}

func TestFragmentedClientHello(t *testing.T) {
	for _, tc := range []struct {
		name  string
		order func([][]byte) [][]byte
	}{
		{"in order", func(ps [][]byte) [][]byte { return ps }},
		{"the wrong way round", func(ps [][]byte) [][]byte { slices.Reverse(ps); return ps }},
		{"everything twice", func(ps [][]byte) [][]byte { return append(ps, ps...) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var held [][]byte
			const fragments = 3 // of the first ClientHello, and there is no second
			l := newLink(t, newPool(t, Config{}), setup{
				role: Server, mtu: 900, hello: dtls.WithClientHelloMessageHook(bigHello),
				toUs: func(b []byte) [][]byte {
					if !startsHandshake(b) {
						return [][]byte{b}
					}
					if held = append(held, b); len(held) < fragments {
						return nil
					}
					out := tc.order(held)
					held = nil
					return out
				},
			})
			defer l.close()
			checkKeys(t, l, Server, l.mustFinish())
			if n := len(l.theirs()); n < fragments {
				t.Errorf("the peer sent %d datagrams: the hello was not fragmented", n)
			}
		})
	}
}

func TestSmallMTUIsKept(t *testing.T) {
	for _, role := range []Role{Server, Client} {
		l := newLink(t, newPool(t, Config{MTU: 300}), setup{role: role, mtu: 300})
		l.mustFinish()
		for i, b := range l.ours() {
			if len(b) > 300 {
				t.Errorf("role %d: datagram %d has %d bytes", role, i, len(b))
			}
		}
		l.close()
	}
}

func TestLostDatagramsAreRepeated(t *testing.T) {
	for _, role := range []Role{Server, Client} {
		for lost := range 6 {
			t.Run(fmt.Sprintf("role %d, datagram %d each way", role, lost), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					lose := func() func([]byte) [][]byte {
						n := -1
						return func(b []byte) [][]byte {
							if n++; n == lost {
								return nil
							}
							return [][]byte{b}
						}
					}
					p := newPool(t, Config{})
					l := newLink(t, p, setup{role: role, toPeer: lose(), toUs: lose()})
					// The media loop's part: the last flight is answered again.
					inner := l.toUs
					var ended atomic.Pointer[Result]
					l.toUs = func(b []byte) [][]byte {
						if r := ended.Load(); r != nil && holds(b, typeHandshake, 1) {
							for _, d := range r.LastFlight {
								l.peerIn <- d
							}
						}
						return inner(b)
					}
					done := make(chan error, 1)
					go func() { done <- l.peer.Handshake() }()
					last := <-l.results
					if last.Err != nil {
						t.Fatal(last.Err)
					}
					ended.Store(&last)
					if err := <-done; err != nil {
						t.Fatal(err)
					}
					checkKeys(t, l, role, last)
					l.close()
					p.Close()
				})
			})
		}
	}
}

func TestLastFlightCompletesThePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, Config{})
		l := newLink(t, p, setup{role: Server, toPeer: func(b []byte) [][]byte {
			if holds(b, typeChangeCipherSpec, 0) {
				return nil // our last flight is lost, always
			}
			return [][]byte{b}
		}})
		done := make(chan error, 1)
		go func() { done <- l.peer.Handshake() }()
		r := <-l.results
		if r.Err != nil || len(r.LastFlight) == 0 {
			t.Fatalf("%v, %d datagrams", r.Err, len(r.LastFlight))
		}
		before, sent := len(l.theirs()), len(l.ours())
		<-time.After(3 * time.Second) // of the bubble's clock: the peer repeats its flight
		if len(l.theirs()) == before {
			t.Error("the peer did not repeat its flight")
		}
		if len(l.ours()) != sent {
			t.Error("something was sent after the end")
		}
		for _, b := range r.LastFlight {
			l.peerIn <- b
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		checkKeys(t, l, Server, r)
		l.close()
		p.Close()
	})
}

func TestHeldLastFlightIsNotSent(t *testing.T) {
	l := newLink(t, newPool(t, Config{}), setup{role: Server, hold: true})
	done := make(chan error, 1)
	go func() { done <- l.peer.Handshake() }()
	r := <-l.results
	if r.Err != nil || len(r.LastFlight) == 0 {
		t.Fatalf("%v, %d datagrams", r.Err, len(r.LastFlight))
	}
	for _, b := range l.ours() {
		if holds(b, typeChangeCipherSpec, 0) {
			t.Error("the last flight was sent")
		}
	}
	for _, b := range r.LastFlight {
		l.peerIn <- b
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	checkKeys(t, l, Server, r)
	l.close()
}

func TestQuietPeerTimesOut(t *testing.T) {
	for _, role := range []Role{Server, Client} {
		t.Run(fmt.Sprint(role), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPool(t, Config{})
				quiet := false
				l := newLink(t, p, setup{role: role, toPeer: func([]byte) [][]byte { return nil }, toUs: func(b []byte) [][]byte {
					if quiet {
						return nil
					}
					quiet = true
					return [][]byte{b}
				}})
				start := time.Now()
				go func() { _ = l.peer.Handshake() }()
				r := <-l.results
				if took := time.Since(start); !errors.Is(r.Err, errs.ErrUnavailable) || took != defaultTimeout {
					t.Errorf("%v after %v", r.Err, took)
				}
				if n := len(l.ours()); n < 4 || n > 30 {
					t.Errorf("%d datagrams sent in the meantime", n)
				}
				l.close()
				p.Close()
			})
		})
	}
}
