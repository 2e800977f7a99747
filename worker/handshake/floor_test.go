package handshake

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"
)

// BenchmarkPublicKeyWork is what a server cannot save of a handshake: a fresh key
// share and its use, a signature over it, and the check of the client's signature.
func BenchmarkPublicKeyWork(b *testing.B) {
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256([]byte("transcript"))
	theirs, err := ecdsa.SignASN1(rand.Reader, own, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	for _, curve := range []struct {
		name string
		ecdh ecdh.Curve
	}{{"X25519", ecdh.X25519()}, {"P-256", ecdh.P256()}} {
		peer, err := curve.ecdh.GenerateKey(rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(curve.name, func(b *testing.B) {
			for b.Loop() {
				share, err := curve.ecdh.GenerateKey(rand.Reader)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := share.ECDH(peer.PublicKey()); err != nil {
					b.Fatal(err)
				}
				if _, err := ecdsa.SignASN1(rand.Reader, own, digest[:]); err != nil {
					b.Fatal(err)
				}
				if !ecdsa.VerifyASN1(&own.PublicKey, digest[:], theirs) {
					b.Fatal("signature refused")
				}
			}
		})
	}
}
