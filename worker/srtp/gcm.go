package srtp

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"

	"github.com/dspeak/sfu/worker/prefetch"
)

const (
	gcmSalt = 12 // as long as the initialization vector
	gcmTag  = 16
)

// gcmLines is how large the library's cipher is, in cache lines.
const gcmLines = 12

// gcm is AEAD_AES_128_GCM (RFC 7714).
type gcm struct {
	rtp, rtcp         cipher.AEAD // rtp is nil before its first use
	rtpKey            [keySize]byte
	rtpSalt, rtcpSalt [gcmSalt]byte
	iv, extra         [gcmSalt]byte // of the present packet
}

// NewGCM protects with AEAD_AES_128_GCM.
func NewGCM(masterKey, masterSalt []byte) (Context, error) {
	if err := checkSizes(masterKey, masterSalt, gcmSalt); err != nil {
		return nil, err
	}
	var rtcp [keySize]byte
	g := &gcm{}
	err := deriveAll(masterKey, masterSalt, map[label][]byte{
		rtpKey: g.rtpKey[:], rtpSalt: g.rtpSalt[:], rtcpKey: rtcp[:], rtcpSalt: g.rtcpSalt[:],
	})
	if err == nil {
		g.rtcp, err = newAEAD(&rtcp)
	}
	if err != nil {
		return nil, err
	}
	return g, nil
}

func newAEAD(key *[keySize]byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key[:])
	if err == nil {
		var aead cipher.AEAD
		if aead, err = cipher.NewGCM(block); err == nil {
			return aead, nil
		}
	}
	return nil, fmt.Errorf("srtp session key: %w", err)
}

// forRTP is the cipher for RTP.
func (g *gcm) forRTP() cipher.AEAD {
	if g.rtp == nil {
		var err error
		if g.rtp, err = newAEAD(&g.rtpKey); err != nil {
			panic(err) //nolint:forbidigo // it worked for RTCP, with a key as long
		}
	}
	return g.rtp
}

// Prefetch asks for all of the cipher: round keys and products of the hash key.
func (g *gcm) Prefetch() { prefetch.Lines(pointee(&g.rtp), gcmLines) } // of no cipher: nothing

// RTP is RFC 7714 section 8.
func (g *gcm) RTP(b []byte, header int, ssrc uint32, index uint64) []byte {
	g.setIV(ssrc, index)
	return g.forRTP().Seal(b[:header], g.iv[:], b[header:], b[:header])
}

// OpenRTP is RFC 7714 section 8.
func (g *gcm) OpenRTP(b []byte, header int, ssrc uint32, index uint64) ([]byte, error) {
	if len(b) < header+gcmTag {
		return nil, errNotAuthentic
	}
	g.setIV(ssrc, index)
	plain, err := g.forRTP().Open(b[:header], g.iv[:], b[header:], b[:header])
	if err != nil {
		return nil, errNotAuthentic
	}
	return plain, nil
}

// setIV is RFC 7714 section 8.1.
func (g *gcm) setIV(ssrc uint32, index uint64) {
	salt, iv := &g.rtpSalt, &g.iv
	iv[0], iv[1] = salt[0], salt[1]
	binary.BigEndian.PutUint32(iv[2:], ssrc^binary.BigEndian.Uint32(salt[2:]))
	binary.BigEndian.PutUint32(iv[6:], uint32(index>>16)^binary.BigEndian.Uint32(salt[6:]))
	binary.BigEndian.PutUint16(iv[10:], uint16(index)^binary.BigEndian.Uint16(salt[10:]))
}

// RTCP is RFC 7714 section 9.
func (g *gcm) RTCP(b []byte, index uint32) []byte {
	g.setRTCP(b, encrypted|index)
	b = g.rtcp.Seal(b[:rtcpHeader], g.iv[:], b[rtcpHeader:], g.extra[:])
	return append(b, g.extra[rtcpHeader:]...)
}

// OpenRTCP is RFC 7714 section 9.
func (g *gcm) OpenRTCP(b []byte) ([]byte, error) {
	at := len(b) - rtcpWord
	if at < rtcpHeader+gcmTag {
		return nil, errNotAuthentic
	}
	word := binary.BigEndian.Uint32(b[at:])
	if word&encrypted == 0 {
		return nil, errNotAuthentic
	}
	g.setRTCP(b, word)
	plain, err := g.rtcp.Open(b[:rtcpHeader], g.iv[:], b[rtcpHeader:at], g.extra[:])
	if err != nil {
		return nil, errNotAuthentic
	}
	return plain, nil
}

// setRTCP sets initialization vector and associated data (RFC 7714 sections 9.1 and 9.2).
func (g *gcm) setRTCP(b []byte, word uint32) {
	g.iv = g.rtcpSalt
	xor32(g.iv[2:], binary.BigEndian.Uint32(b[4:]))
	xor32(g.iv[8:], word&^encrypted)
	copy(g.extra[:], b[:rtcpHeader])
	binary.BigEndian.PutUint32(g.extra[rtcpHeader:], word)
}

// RTCPIndex is RFC 7714 section 9.1: the index ends the packet.
func (*gcm) RTCPIndex(b []byte) (index uint32, ok bool) { return rtcpIndex(b, 0) }

func xor32(b []byte, v uint32) { binary.BigEndian.PutUint32(b, binary.BigEndian.Uint32(b)^v) }
