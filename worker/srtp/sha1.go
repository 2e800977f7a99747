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
	key   [keySize]byte
	auth  [sha1.Size]byte
	salt  [aes.BlockSize]byte // the last two bytes are the block counter's
	block cipher.Block        // nil before its first use, as mac
	mac   hash.Hash
}

// NewSHA1 protects with AES_CM_128_HMAC_SHA1_80.
func NewSHA1(masterKey, masterSalt []byte) (Context, error) {
	if err := checkSizes(masterKey, masterSalt, cmSalt); err != nil {
		return nil, err
	}
	c := &cm{}
	for keys, of := range map[*cmKeys][3]label{&c.rtp: {rtpKey, rtpAuth, rtpSalt}, &c.rtcp: {rtcpKey, rtcpAuth, rtcpSalt}} {
		err := deriveAll(masterKey, masterSalt, map[label][]byte{
			of[0]: keys.key[:], of[1]: keys.auth[:], of[2]: keys.salt[:cmSalt],
		})
		if err != nil {
			return nil, err
		}
	}
	if err := c.rtcp.open(); err != nil {
		return nil, err
	}
	return c, nil
}

// open makes the ciphers.
func (k *cmKeys) open() (err error) {
	if k.block, err = aes.NewCipher(k.key[:]); err != nil {
		return fmt.Errorf("srtp session key: %w", err)
	}
	k.mac = hmac.New(sha1.New, k.auth[:])
	return nil
}

// forRTP are the keys for RTP, with ciphers.
func (c *cm) forRTP() *cmKeys {
	if c.rtp.block == nil {
		if err := c.rtp.open(); err != nil {
			panic(err) //nolint:forbidigo // it worked for RTCP, with a key as long
		}
	}
	return &c.rtp
}

// Prefetch asks for the round keys, and the beginning of the hash.
func (c *cm) Prefetch() {
	prefetch.Lines(pointee(&c.rtp.block), cmLines)
	prefetch.Lines(pointee(&c.rtp.mac), 1)
}

// RTP is RFC 3711 section 3.3.
func (c *cm) RTP(b []byte, header int, ssrc uint32, index uint64) []byte {
	keys := c.forRTP()
	c.setCounter(ssrc, index)
	c.encrypt(keys.block, b[header:])
	return append(b, c.tag(keys.mac, b, c.trailer[:])...)
}

// OpenRTP is RFC 3711 section 3.3.
func (c *cm) OpenRTP(b []byte, header int, ssrc uint32, index uint64) ([]byte, error) {
	end := len(b) - sha1Tag
	if end < header {
		return nil, errNotAuthentic
	}
	keys := c.forRTP()
	c.setCounter(ssrc, index)
	if subtle.ConstantTimeCompare(c.tag(keys.mac, b[:end], c.trailer[:]), b[end:]) == 0 {
		return nil, errNotAuthentic
	}
	c.encrypt(keys.block, b[header:end])
	return b[:end], nil
}

// setCounter sets the initialization vector (RFC 3711 section 4.1.1), and what is
// authenticated beside the packet (section 4.2).
func (c *cm) setCounter(ssrc uint32, index uint64) {
	c.counter = c.rtp.salt
	xor32(c.counter[4:], ssrc)
	xor32(c.counter[8:], uint32(index>>16))
	binary.BigEndian.PutUint16(c.counter[12:], binary.BigEndian.Uint16(c.counter[12:])^uint16(index))
	binary.BigEndian.PutUint32(c.trailer[:], uint32(index>>16))
}

// RTCP is RFC 3711 section 3.4.
func (c *cm) RTCP(b []byte, index uint32) []byte {
	c.setRTCPCounter(b, index)
	c.encrypt(c.rtcp.block, b[rtcpHeader:])
	b = binary.BigEndian.AppendUint32(b, encrypted|index)
	return append(b, c.tag(c.rtcp.mac, b, nil)...)
}

// OpenRTCP is RFC 3711 section 3.4.
func (c *cm) OpenRTCP(b []byte) ([]byte, error) {
	end := len(b) - sha1Tag
	at := end - rtcpWord
	if at < rtcpHeader || subtle.ConstantTimeCompare(c.tag(c.rtcp.mac, b[:end], nil), b[end:]) == 0 {
		return nil, errNotAuthentic
	}
	word := binary.BigEndian.Uint32(b[at:])
	if word&encrypted == 0 {
		return nil, errNotAuthentic
	}
	c.setRTCPCounter(b, word&^encrypted)
	c.encrypt(c.rtcp.block, b[rtcpHeader:at])
	return b[:at], nil
}

func (c *cm) setRTCPCounter(b []byte, index uint32) {
	c.counter = c.rtcp.salt
	xor32(c.counter[4:], binary.BigEndian.Uint32(b[4:]))
	xor32(c.counter[10:], index)
}

// RTCPIndex is RFC 3711 section 3.4: the index stands before the tag.
func (*cm) RTCPIndex(b []byte) (index uint32, ok bool) { return rtcpIndex(b, sha1Tag) }

// encrypt is AES in counter mode from c.counter on (RFC 3711 section 4.1.1).
func (c *cm) encrypt(block cipher.Block, b []byte) {
	for n := uint16(0); len(b) > 0; n++ {
		binary.BigEndian.PutUint16(c.counter[cmSalt:], n)
		block.Encrypt(c.stream[:], c.counter[:])
		b = b[subtle.XORBytes(b, b, c.stream[:min(len(b), len(c.stream))]):]
	}
}

// tag authenticates b and more. It is valid until the next call.
func (c *cm) tag(mac hash.Hash, b, more []byte) []byte {
	mac.Reset()
	_, _ = mac.Write(b) // a hash never fails
	_, _ = mac.Write(more)
	return mac.Sum(c.sum[:0])[:sha1Tag]
}
