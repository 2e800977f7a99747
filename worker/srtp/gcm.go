package srtp

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"

	"github.com/dspeak/sfu/worker/prefetch"
)

const gcmSalt = 12 // as long as the initialization vector

// gcmLines is how large the library's cipher is, in cache lines.
const gcmLines = 12

// gcm is AEAD_AES_128_GCM (RFC 7714).
type gcm struct {
	rtp, rtcp         cipher.AEAD
	rtpSalt, rtcpSalt [gcmSalt]byte
	iv, extra         [gcmSalt]byte // of the present packet
}

// NewGCM protects with AEAD_AES_128_GCM.
func NewGCM(masterKey, masterSalt []byte) (Sealer, error) {
	if err := checkSizes(masterKey, masterSalt, gcmSalt); err != nil {
		return nil, err
	}
	var rtp, rtcp [keySize]byte
	g := &gcm{}
	if err := deriveAll(masterKey, masterSalt, map[label][]byte{
		rtpKey: rtp[:], rtpSalt: g.rtpSalt[:], rtcpKey: rtcp[:], rtcpSalt: g.rtcpSalt[:],
	}); err != nil {
		return nil, err
	}
	return g, g.setKeys(rtp[:], rtcp[:])
}

func (g *gcm) setKeys(rtp, rtcp []byte) error {
	for to, key := range map[*cipher.AEAD][]byte{&g.rtp: rtp, &g.rtcp: rtcp} {
		block, err := aes.NewCipher(key)
		if err == nil {
			*to, err = cipher.NewGCM(block)
		}
		if err != nil {
			return fmt.Errorf("srtp session key: %w", err)
		}
	}
	return nil
}

// Prefetch asks for all of the cipher: round keys and products of the hash key.
func (g *gcm) Prefetch() { prefetch.Lines(pointee(&g.rtp), gcmLines) }

// RTP is RFC 7714 section 8.
func (g *gcm) RTP(b []byte, header int, ssrc uint32, index uint64) []byte {
	salt, iv := &g.rtpSalt, &g.iv
	iv[0], iv[1] = salt[0], salt[1]
	binary.BigEndian.PutUint32(iv[2:], ssrc^binary.BigEndian.Uint32(salt[2:]))
	binary.BigEndian.PutUint32(iv[6:], uint32(index>>16)^binary.BigEndian.Uint32(salt[6:]))
	binary.BigEndian.PutUint16(iv[10:], uint16(index)^binary.BigEndian.Uint16(salt[10:]))
	return g.rtp.Seal(b[:header], iv[:], b[header:], b[:header])
}

// RTCP is RFC 7714 section 9.
func (g *gcm) RTCP(b []byte, index uint32) []byte {
	g.iv = g.rtcpSalt
	xor32(g.iv[2:], binary.BigEndian.Uint32(b[4:]))
	xor32(g.iv[8:], index)
	copy(g.extra[:], b[:rtcpHeader])
	binary.BigEndian.PutUint32(g.extra[rtcpHeader:], encrypted|index)
	b = g.rtcp.Seal(b[:rtcpHeader], g.iv[:], b[rtcpHeader:], g.extra[:])
	return append(b, g.extra[rtcpHeader:]...)
}

func xor32(b []byte, v uint32) { binary.BigEndian.PutUint32(b, binary.BigEndian.Uint32(b)^v) }
