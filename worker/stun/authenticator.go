package stun

import (
	"crypto/hmac"
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

// Authenticator checks requests and builds answers under one password (the
// short-term credential of RFC 8489 section 9.1). No call allocates. It belongs to
// the goroutine of its MAC.
type Authenticator struct {
	mac      *MAC
	password string
}

// NewAuthenticator makes an authenticator that computes with mac.
func NewAuthenticator(mac *MAC, password string) Authenticator {
	return Authenticator{mac: mac, password: password}
}

// Verify says whether the request has a USERNAME, a MESSAGE-INTEGRITY under this
// password, and a right FINGERPRINT if it has one. The comparison takes constant
// time. The packet that was parsed must be unchanged.
func (a Authenticator) Verify(r *Request) bool {
	if !r.HasIntegrity || r.LocalUfrag == nil {
		return false
	}
	if r.HasFingerprint && binary.BigEndian.Uint32(r.raw[r.fingerprintAt+attributeHeader:]) != crc(r.raw[:r.fingerprintAt]) {
		return false
	}
	value := r.raw[r.integrityAt+attributeHeader:]
	return hmac.Equal(value[:integritySize], a.integrity(r.raw[:r.integrityAt]))
}

// integrity is the HMAC of a message up to its MESSAGE-INTEGRITY attribute, with
// the length field counting that attribute (RFC 8489 section 14.5).
func (a Authenticator) integrity(b []byte) []byte {
	head := &a.mac.head
	copy(head[:], b)
	binary.BigEndian.PutUint16(head[2:], uint16(len(b)-HeaderSize+attributeHeader+integritySize))
	return a.mac.compute(a.password, head[:], b[HeaderSize:])
}

// crc is the value of FINGERPRINT over what stands before it (RFC 8489 section 14.7).
func crc(b []byte) uint32 { return crc32.ChecksumIEEE(b) ^ fingerprintXOR }

// AppendSuccess appends a binding success answer: XOR-MAPPED-ADDRESS,
// MESSAGE-INTEGRITY and FINGERPRINT.
func (a Authenticator) AppendSuccess(dst []byte, transactionID [TransactionIDSize]byte, mapped netip.AddrPort) []byte {
	start := len(dst)
	dst = appendHeader(dst, typeSuccess, transactionID)
	dst = appendMapped(dst, transactionID, mapped)
	return a.seal(dst, start)
}

// AppendError appends a binding error answer with the code (300 to 699) and
// reason, which is cut at 127 bytes (RFC 8489 section 14.8). A 400 and a 401 have
// no MESSAGE-INTEGRITY (section 9.1.3): the peer may not know the key.
func (a Authenticator) AppendError(dst []byte, transactionID [TransactionIDSize]byte, code int, reason string) []byte {
	start := len(dst)
	dst = appendHeader(dst, typeError, transactionID)
	dst = appendErrorCode(dst, code, reason)
	if code == 400 || code == 401 {
		return appendFingerprint(dst, start)
	}
	return a.seal(dst, start)
}

// AppendUnknown appends the 420 answer that names a comprehension-required
// attribute (RFC 8489 section 6.3.1).
func (a Authenticator) AppendUnknown(dst []byte, transactionID [TransactionIDSize]byte, unknown uint16) []byte {
	start := len(dst)
	dst = appendHeader(dst, typeError, transactionID)
	dst = appendErrorCode(dst, 420, "Unknown Attribute")
	dst = appendAttribute(dst, attrUnknownAttributes, 2)
	dst = binary.BigEndian.AppendUint16(dst, unknown)
	dst = append(dst, 0, 0)
	return a.seal(dst, start)
}

// seal appends MESSAGE-INTEGRITY and FINGERPRINT to the message at start.
func (a Authenticator) seal(dst []byte, start int) []byte {
	sum := a.integrity(dst[start:])
	dst = appendAttribute(dst, attrMessageIntegrity, integritySize)
	dst = append(dst, sum...)
	return appendFingerprint(dst, start)
}

func appendHeader(dst []byte, kind uint16, transactionID [TransactionIDSize]byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, kind)
	dst = append(dst, 0, 0) // the length is set at the end
	dst = binary.BigEndian.AppendUint32(dst, magicCookie)
	return append(dst, transactionID[:]...)
}

func appendAttribute(dst []byte, kind uint16, length int) []byte {
	dst = binary.BigEndian.AppendUint16(dst, kind)
	return binary.BigEndian.AppendUint16(dst, uint16(length))
}

// appendErrorCode appends ERROR-CODE: class, number, and the reason padded to four
// bytes (RFC 8489 section 14.8).
func appendErrorCode(dst []byte, code int, reason string) []byte {
	reason = reason[:min(len(reason), maxReason)]
	dst = appendAttribute(dst, attrErrorCode, 4+len(reason))
	dst = append(dst, 0, 0, byte(code/100), byte(code%100))
	dst = append(dst, reason...)
	for n := len(reason); n%4 != 0; n++ {
		dst = append(dst, 0)
	}
	return dst
}

// appendMapped appends XOR-MAPPED-ADDRESS (RFC 8489 section 14.2).
func appendMapped(dst []byte, transactionID [TransactionIDSize]byte, mapped netip.AddrPort) []byte {
	addr := mapped.Addr().Unmap()
	port := mapped.Port() ^ uint16(magicCookie>>16)
	var mask [16]byte
	binary.BigEndian.PutUint32(mask[:], magicCookie)
	copy(mask[4:], transactionID[:])
	if addr.Is4() {
		dst = appendAttribute(dst, attrXORMappedAddress, 8)
		dst = binary.BigEndian.AppendUint16(append(dst, 0, 1), port)
		ip := addr.As4()
		for i := range ip {
			dst = append(dst, ip[i]^mask[i])
		}
		return dst
	}
	dst = appendAttribute(dst, attrXORMappedAddress, 20)
	dst = binary.BigEndian.AppendUint16(append(dst, 0, 2), port)
	ip := addr.As16()
	for i := range ip {
		dst = append(dst, ip[i]^mask[i])
	}
	return dst
}

// appendFingerprint sets the final length and appends FINGERPRINT.
func appendFingerprint(dst []byte, start int) []byte {
	binary.BigEndian.PutUint16(dst[start+2:], uint16(len(dst)-start-HeaderSize+attributeHeader+4))
	sum := crc(dst[start:])
	dst = appendAttribute(dst, attrFingerprint, 4)
	return binary.BigEndian.AppendUint32(dst, sum)
}
