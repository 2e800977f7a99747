package srtp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // RFC 3711 prescribes HMAC-SHA1
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/dspeak/sfu/worker/prefetch"
)

const (
	cmSalt  = 14
	sha1Tag = 10
	// cmLines is how long the round keys are at the front of the library's cipher, in cache
	// lines.
	cmLines = 3
)

// cm is AES_CM_128_HMAC_SHA1_80 (RFC 3711).
type cm struct {
	rtp, rtcp cmKeys
	// Of the present packet; fields, because what the cipher gets escapes.
	counter, stream [aes.BlockSize]byte
	trailer         [4]byte
	sum             [sha1.Size]byte
}

type cmKeys struct {
	block cipher.Block
	mac   hash.Hash
	salt  [aes.BlockSize]byte // the last two bytes are the block counter's
}

// NewSHA1 protects with AES_CM_128_HMAC_SHA1_80.
func NewSHA1(masterKey, masterSalt []byte) (Sealer, error) {
	if err := checkSizes(masterKey, masterSalt, cmSalt); err != nil {
		return nil, err
	}
	c := &cm{}
	var key [keySize]byte
	var auth [sha1.Size]byte
	for keys, of := range map[*cmKeys][3]label{&c.rtp: {rtpKey, rtpAuth, rtpSalt}, &c.rtcp: {rtcpKey, rtcpAuth, rtcpSalt}} {
		err := deriveAll(masterKey, masterSalt, map[label][]byte{of[0]: key[:], of[1]: auth[:], of[2]: keys.salt[:cmSalt]})
		if err != nil {
			return nil, err
		}
		if keys.block, err = aes.NewCipher(key[:]); err != nil {
			return nil, fmt.Errorf("srtp session key: %w", err)
		}
		keys.mac = hmac.New(sha1.New, auth[:])
	}
	return c, nil
}

// Prefetch asks for the round keys, and the beginning of the hash.
func (c *cm) Prefetch() {
	prefetch.Lines(pointee(&c.rtp.block), cmLines)
	prefetch.Lines(pointee(&c.rtp.mac), 1)
}

// RTP is RFC 3711 section 3.3.
func (c *cm) RTP(b []byte, header int, ssrc uint32, index uint64) []byte {
	c.counter = c.rtp.salt
	xor32(c.counter[4:], ssrc)
	xor32(c.counter[8:], uint32(index>>16))
	binary.BigEndian.PutUint16(c.counter[12:], binary.BigEndian.Uint16(c.counter[12:])^uint16(index))
	c.encrypt(c.rtp.block, b[header:])
	binary.BigEndian.PutUint32(c.trailer[:], uint32(index>>16))
	return c.sign(c.rtp.mac, b, c.trailer[:], b)
}

// RTCP is RFC 3711 section 3.4.
func (c *cm) RTCP(b []byte, index uint32) []byte {
	c.counter = c.rtcp.salt
	xor32(c.counter[4:], binary.BigEndian.Uint32(b[4:]))
	xor32(c.counter[10:], index)
	c.encrypt(c.rtcp.block, b[rtcpHeader:])
	b = binary.BigEndian.AppendUint32(b, encrypted|index)
	return c.sign(c.rtcp.mac, b, nil, b)
}

// encrypt is AES in counter mode from c.counter on (RFC 3711 section 4.1.1).
func (c *cm) encrypt(block cipher.Block, b []byte) {
	for n := uint16(0); len(b) > 0; n++ {
		binary.BigEndian.PutUint16(c.counter[cmSalt:], n)
		block.Encrypt(c.stream[:], c.counter[:])
		b = b[subtle.XORBytes(b, b, c.stream[:min(len(b), len(c.stream))]):]
	}
}

// sign appends the tag over b and more to dst.
func (c *cm) sign(mac hash.Hash, b, more, dst []byte) []byte {
	mac.Reset()
	_, _ = mac.Write(b) // a hash never fails
	_, _ = mac.Write(more)
	return append(dst, mac.Sum(c.sum[:0])[:sha1Tag]...)
}
