package stun

import (
	"crypto/sha1" //nolint:gosec // RFC 8489 section 14.5 prescribes HMAC-SHA1
	"hash"
)

// MAC computes HMAC-SHA1 (RFC 2104) under any key without allocating. The state that
// crypto/hmac keeps for each key is several times larger than what a silent client
// needs otherwise; here the keys share one. A MAC belongs to one goroutine.
type MAC struct {
	hash hash.Hash
	pad  [sha1.BlockSize]byte
	sum  [sha1.Size]byte
	head [HeaderSize]byte // the start of a message, with its length field changed
}

// NewMAC makes a MAC, enough for all keys of a goroutine.
func NewMAC() *MAC {
	return &MAC{hash: sha1.New()} //nolint:gosec // as above
}

// compute returns the HMAC of the parts together, valid until the next call.
func (m *MAC) compute(key string, parts ...[]byte) []byte {
	const inner, outer = 0x36, 0x5c
	clear(m.pad[:])
	if len(key) > len(m.pad) {
		m.hash.Reset()
		_, _ = m.hash.Write([]byte(key)) // a hash never fails
		m.hash.Sum(m.pad[:0])
	} else {
		copy(m.pad[:], key)
	}
	for i := range m.pad {
		m.pad[i] ^= inner
	}
	m.hash.Reset()
	_, _ = m.hash.Write(m.pad[:])
	for _, part := range parts {
		_, _ = m.hash.Write(part)
	}
	sum := m.hash.Sum(m.sum[:0])
	for i := range m.pad {
		m.pad[i] ^= inner ^ outer
	}
	m.hash.Reset()
	_, _ = m.hash.Write(m.pad[:])
	_, _ = m.hash.Write(sum)
	return m.hash.Sum(m.sum[:0])
}
