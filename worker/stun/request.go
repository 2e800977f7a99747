package stun

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/dspeak/sfu/internal/errs"
)

const (
	// HeaderSize is the size of a STUN header (RFC 8489 section 5).
	HeaderSize = 20
	// TransactionIDSize is the size of a transaction id.
	TransactionIDSize = 12

	magicCookie = 0x2112A442
	// maxMessage bounds a request: a browser's check has about 100 bytes.
	maxMessage = 1500
	// maxUsername bounds USERNAME (RFC 8489 section 14.3).
	maxUsername = 508
	// maxReason bounds the reason of an error answer (RFC 8489 section 14.8).
	maxReason = 127

	attributeHeader = 4
	integritySize   = 20 // HMAC-SHA1
	fingerprintXOR  = 0x5354554e
)

// Message types (RFC 8489 section 5): method Binding with its class bits.
const (
	typeRequest    = 0x0001
	typeIndication = 0x0011
	typeSuccess    = 0x0101
	typeError      = 0x0111
)

// Attribute types (RFC 8489 section 18.3, RFC 8445 section 16.1).
const (
	attrMappedAddress     = 0x0001
	attrUsername          = 0x0006
	attrMessageIntegrity  = 0x0008
	attrErrorCode         = 0x0009
	attrUnknownAttributes = 0x000A
	attrRealm             = 0x0014
	attrNonce             = 0x0015
	attrXORMappedAddress  = 0x0020
	attrPriority          = 0x0024
	attrUseCandidate      = 0x0025
	attrFingerprint       = 0x8028
	attrControlled        = 0x8029
	attrControlling       = 0x802A
	// firstOptional is the first comprehension-optional type (RFC 8489 section 14).
	firstOptional = 0x8000
)

// Faults of a message. They are made once: a flood of garbage must not allocate.
var (
	errMessage   = fmt.Errorf("stun message is no binding request: %w", errs.ErrInvalid)
	errTruncated = fmt.Errorf("stun attribute is truncated: %w", errs.ErrInvalid)
	errSize      = fmt.Errorf("stun attribute has a wrong size: %w", errs.ErrInvalid)
	errUsername  = fmt.Errorf("stun user name is malformed: %w", errs.ErrInvalid)
)

// Request is a parsed binding request or indication. Its slices alias the packet.
// Of an attribute that comes twice, the first counts (RFC 8489 section 14).
type Request struct {
	TransactionID [TransactionIDSize]byte
	// LocalUfrag and RemoteUfrag are the halves of USERNAME: ours, then the
	// sender's (RFC 8445 section 7.2.2). LocalUfrag is nil without USERNAME.
	LocalUfrag, RemoteUfrag []byte
	// Priority is that of the candidate pair's remote half, 0 when not given.
	Priority uint32
	// TieBreaker is that of Controlling or Controlled, 0 without either.
	TieBreaker              uint64
	UseCandidate            bool
	Controlling, Controlled bool
	// Indication: a keep-alive that wants no answer and proves nothing.
	Indication bool
	// HasIntegrity and HasFingerprint only say that the attribute is there.
	HasIntegrity, HasFingerprint bool
	// Unknown is the first comprehension-required attribute that is not known, 0: none.
	Unknown uint16

	raw           []byte
	integrityAt   int // offset of the MESSAGE-INTEGRITY attribute
	fingerprintAt int // offset of the FINGERPRINT attribute
}

// Is says whether b is framed like one whole STUN message: two zero bits, the
// magic cookie, and a length that is b's (RFC 8489 section 5, RFC 7983 section 7).
func Is(b []byte) bool {
	return len(b) >= HeaderSize && b[0] < 4 && binary.BigEndian.Uint32(b[4:]) == magicCookie &&
		int(binary.BigEndian.Uint16(b[2:]))+HeaderSize == len(b)
}

// Parse reads a binding request or indication of up to 1500 bytes in place.
// Anything else, and anything malformed, is an error that wraps errs.ErrInvalid.
// Nothing is checked with a key here: see Authenticator.Verify. Any goroutine may
// call it.
func Parse(b []byte) (Request, error) {
	var r Request
	if len(b) > maxMessage || len(b)%4 != 0 || !Is(b) {
		return r, errMessage
	}
	switch binary.BigEndian.Uint16(b) {
	case typeRequest:
	case typeIndication:
		r.Indication = true
	default:
		return r, errMessage
	}
	r.raw = b
	copy(r.TransactionID[:], b[8:])
	for at := HeaderSize; at < len(b); {
		if len(b)-at < attributeHeader {
			return r, errTruncated
		}
		kind, length := binary.BigEndian.Uint16(b[at:]), int(binary.BigEndian.Uint16(b[at+2:]))
		value := at + attributeHeader
		end := value + (length+3)&^3 // padded to four bytes (RFC 8489 section 14)
		if end > len(b) {
			return r, errTruncated
		}
		if err := r.attribute(kind, b[value:value+length], at); err != nil {
			return r, err
		}
		at = end
	}
	return r, nil
}

// ignores says whether an attribute stands too late to count: only FINGERPRINT
// does after MESSAGE-INTEGRITY, and nothing after FINGERPRINT (RFC 8489 sections
// 14.5 and 14.7). So nothing that is noted escapes the integrity check.
func (r *Request) ignores(kind uint16) bool {
	return r.HasFingerprint || (r.HasIntegrity && kind != attrFingerprint)
}

// attribute notes one attribute.
func (r *Request) attribute(kind uint16, value []byte, at int) error {
	if r.ignores(kind) {
		return nil
	}
	if want := fixedSize(kind); want >= 0 && len(value) != want {
		return errSize
	}
	switch kind {
	case attrUsername:
		return r.username(value)
	case attrMessageIntegrity:
		r.HasIntegrity, r.integrityAt = true, at
	case attrFingerprint:
		r.HasFingerprint, r.fingerprintAt = true, at
	case attrPriority:
		if r.Priority == 0 {
			r.Priority = binary.BigEndian.Uint32(value)
		}
	case attrUseCandidate:
		r.UseCandidate = true
	case attrControlled, attrControlling:
		r.role(kind, binary.BigEndian.Uint64(value))
	case attrMappedAddress, attrErrorCode, attrUnknownAttributes, attrRealm, attrNonce, attrXORMappedAddress:
		// Known but not expected in a request: ignored (RFC 8489 section 6.3.1).
	default:
		if kind < firstOptional && r.Unknown == 0 {
			r.Unknown = kind
		}
	}
	return nil
}

// role notes the sender's role. One that claims both roles has the first.
func (r *Request) role(kind uint16, tieBreaker uint64) {
	if r.Controlled || r.Controlling {
		return
	}
	r.Controlled, r.Controlling = kind == attrControlled, kind == attrControlling
	r.TieBreaker = tieBreaker
}

// fixedSize is the size that an attribute must have, -1: any.
func fixedSize(kind uint16) int {
	switch kind {
	case attrMessageIntegrity:
		return integritySize
	case attrUseCandidate:
		return 0
	case attrPriority, attrFingerprint:
		return 4
	case attrControlled, attrControlling:
		return 8
	default:
		return -1
	}
}

// username splits "local:remote" (RFC 8445 section 7.2.2).
func (r *Request) username(value []byte) error {
	local, remote, ok := bytes.Cut(value, []byte{':'})
	if !ok || len(value) > maxUsername || len(local) == 0 {
		return errUsername
	}
	if r.LocalUfrag == nil {
		r.LocalUfrag, r.RemoteUfrag = local, remote
	}
	return nil
}
